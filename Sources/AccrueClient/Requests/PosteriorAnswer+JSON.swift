public import AccrueCore

/// Answers as JSON: tensors with a row a row of the question become `answers`, one object a row; others stand under `tensors`. Figures stand at the top.
extension PosteriorAnswer {
    /// What the method said besides figures.
    public var fields: [String: JSONValue] { (reply.header.object ?? [:]).filter { $0.key != "figures" && $0.key != "score" } }

    public var figures: [String: Double] { (reply.header["figures"]?.object ?? [:]).compactMapValues(\.double) }

    public var json: JSONValue {
        var result = fields
        for (name, figure) in figures { result[name] = .number(figure) }
        result["pipeline"] = .string(reply.pipeline)
        result["version"] = .integer(reply.version)
        result["absorbedChunks"] = .integer(reply.absorbedChunks)
        result["absorbedRows"] = .integer(reply.absorbedRows)
        if let answers { result["answers"] = .array(answers) }
        let whole = wholeTensors
        if !whole.isEmpty { result["tensors"] = .object(whole.mapValues(\.json)) }
        return .object(result)
    }

    /// Tensors that are not about single rows of the question.
    public var wholeTensors: [String: TensorBytes] { tensors.filter { !isPerRow($0.value) } }

    /// One object a row; nil when the answer has none.
    public var answers: [JSONValue]? {
        let columns = tensors.filter { isPerRow($0.value) }.mapValues { $0.json.array ?? [] }
        guard let rowCount, !columns.isEmpty else { return nil }
        return (0..<rowCount).map { row in .object(columns.mapValues { $0[row] }) }
    }

    private var rowCount: Int? { reply.header["rows"]?.int }

    private func isPerRow(_ tensor: TensorBytes) -> Bool { rowCount != nil && tensor.shape.first == rowCount }
}

extension TensorBytes {
    /// Numbers in lists within lists, a level a dimension; what is not finite is null.
    public var json: JSONValue { Self.nested(doubles()[...], shape[...]) }

    private static func nested(_ values: ArraySlice<Double>, _ shape: ArraySlice<Int>) -> JSONValue {
        guard let count = shape.first else { return values.first.map { .number($0) } ?? .null }
        let size = shape.dropFirst().reduce(1, *)
        return .array((0..<count).map { nested(values[(values.startIndex + $0 * size)..<(values.startIndex + ($0 + 1) * size)], shape.dropFirst()) })
    }
}
