import AccrueClient
import AccrueCore

/// A posterior's answer as JSON and as lines for people.
///
/// Tensors with a row a row of the question become `answers`, one object a row; others stand under `tensors`. Figures stand at the top.
struct AnswerText {
    private let answer: PosteriorAnswer
    private let rowCount: Int?
    private let fields: [String: JSONValue]
    /// Names for what `probabilities` has a column each.
    private let classes: [String]?
    private let figures: [String: Double]

    init(_ answer: PosteriorAnswer) {
        self.answer = answer
        rowCount = answer.reply.header["rows"]?.int
        figures = (answer.reply.header["figures"]?.object ?? [:]).compactMapValues(\.double)
        classes = answer.reply.header["classes"]?.array?.compactMap(\.string)
        fields = (answer.reply.header.object ?? [:]).filter { $0.key != "figures" && $0.key != "score" }
    }

    var json: JSONValue {
        var result = fields
        for (name, figure) in figures { result[name] = .number(figure) }
        result["pipeline"] = .string(answer.reply.pipeline)
        result["version"] = .integer(answer.reply.version)
        result["absorbedChunks"] = .integer(answer.reply.absorbedChunks)
        result["absorbedRows"] = .integer(answer.reply.absorbedRows)
        if let answers { result["answers"] = .array(answers) }
        let whole = answer.tensors.filter { !isPerRow($0.value) }
        if !whole.isEmpty { result["tensors"] = .object(whole.mapValues { Self.nested($0.doubles()[...], $0.shape[...]) }) }
        return .object(result)
    }

    var lines: [String] {
        var lines = [
            "version \(answer.reply.version) of pipeline '\(answer.reply.pipeline)', which absorbed \(answer.reply.absorbedChunks) chunks (\(answer.reply.absorbedRows) rows)"
        ]
        for (row, cells) in (answers ?? []).enumerated() {
            var cells = cells.object ?? [:]
            let named = named(cells["probabilities"])
            if named != nil { cells["probabilities"] = nil }
            let parts = cells.sorted { $0.key < $1.key }.map { "\($0.key) \(Self.short($0.value))" }
            lines.append("row \(row): \(([named].compactMap(\.self) + parts).joined(separator: "  "))")
        }
        for (name, tensor) in answer.tensors.sorted(by: { $0.key < $1.key }) where !isPerRow(tensor) {
            lines.append("\(name): \(tensor.dtype.rawValue) \(tensor.shape) \(Self.short(Self.nested(tensor.doubles()[...], tensor.shape[...])))")
        }
        for (name, value) in fields.sorted(by: { $0.key < $1.key }) where name != "classes" { lines.append("\(name): \(Self.short(value))") }
        for (name, figure) in figures.sorted(by: { $0.key < $1.key }) where fields[name] == nil { lines.append("\(name): \(Output.short(figure))") }
        return lines
    }

    private static let namedMax = 3

    /// The likeliest classes by their names, and what is left for the others.
    private func named(_ probabilities: JSONValue?) -> String? {
        guard let classes, let values = probabilities?.array?.compactMap(\.double), values.count == classes.count else { return nil }
        let sorted = zip(classes, values).sorted { $0.1 > $1.1 }
        var parts = sorted.prefix(Self.namedMax).map { "\($0.0) \(Output.short($0.1))" }
        let others = sorted.dropFirst(Self.namedMax)
        if !others.isEmpty { parts.append("\(others.count) others \(Output.short(others.reduce(0) { $0 + $1.1 }))") }
        return parts.joined(separator: ", ")
    }

    private func isPerRow(_ tensor: TensorBytes) -> Bool { rowCount != nil && tensor.shape.first == rowCount }

    /// One object a row; nil when the answer has none.
    private var answers: [JSONValue]? {
        let columns = answer.tensors.filter { isPerRow($0.value) }.mapValues { (values: $0.doubles(), shape: $0.shape.dropFirst()) }
        guard let rowCount, !columns.isEmpty else { return nil }
        return (0..<rowCount).map { row in
            .object(
                columns.mapValues { column in
                    let size = column.shape.reduce(1, *)
                    return Self.nested(column.values[row * size..<(row + 1) * size], column.shape)
                })
        }
    }

    private static func nested(_ values: ArraySlice<Double>, _ shape: ArraySlice<Int>) -> JSONValue {
        guard let count = shape.first else { return values.first.map { .number($0) } ?? .null }
        let size = shape.dropFirst().reduce(1, *)
        return .array((0..<count).map { nested(values[(values.startIndex + $0 * size)..<(values.startIndex + ($0 + 1) * size)], shape.dropFirst()) })
    }

    private static func short(_ value: JSONValue) -> String {
        switch value {
        case .number(let number): Output.short(number)
        case .array(let values) where values.count > 16: "[\(values.prefix(16).map(short).joined(separator: ", ")), … \(values.count) in all]"
        case .array(let values): "[\(values.map(short).joined(separator: ", "))]"
        default: value.canonical
        }
    }
}
