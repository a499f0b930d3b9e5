public import AccrueCore

/// The question `predict`, as all methods that predict answer it.
///
/// Header: `draws` (default the method's), `summary` (no per-row answers). Tensors: the schema's inputs; with the target too, the answer's header has
/// `figures`, and `score`, the sums that they follow from: those of several queries add.
public enum PredictQuery {
    public static let verb = "predict"

    /// What was asked.
    public struct Request: Sendable {
        public var draws: Int?
        public var summary: Bool
        public var rows: Rows
        public var hasTargets: Bool
        /// Names of the target's classes, where the schema has them.
        public var classes: [String]?
    }

    /// - Throws: `invalidInput` for unknown header keys, or tensors that do not fit the schema; `limitExceeded` for too many rows or draws.
    public static func read(_ query: QueryBytes, schema: Schema) throws(AccrueError) -> Request {
        let operation = "answering 'predict'"
        try StrictKeys.check(query.header, known: ["draws", "summary"], while: operation)
        var draws: Int?
        if let asked = query.header["draws"], asked != .null {
            guard let number = asked.int, number >= 1 else {
                throw AccrueError(.invalidInput, while: operation, "'draws' is \(asked.canonical); it must be a whole number from 1")
            }
            guard number <= Limits.queryDrawsMax else {
                throw AccrueError(.limitExceeded, while: operation, "\(number) draws; at most \(Limits.queryDrawsMax) are allowed", hint: "ask for fewer draws")
            }
            draws = number
        }
        let targets = Set(schema.tensors(.target).map(\.name))
        let hasTargets = query.tensors.keys.contains { targets.contains($0) }
        let rows = try Rows(query.tensors, schema: schema, roles: hasTargets ? [.input, .target, .mask] : [.input, .mask], while: operation)
        guard rows.count <= Limits.queryRowsMax else {
            throw AccrueError(.limitExceeded, while: operation, "\(rows.count) rows; at most \(Limits.queryRowsMax) are allowed", hint: "ask in several queries")
        }
        return Request(draws: draws, summary: query.header["summary"]?.bool ?? false, rows: rows, hasTargets: hasTargets, classes: schema.tensors(.target).first?.classes)
    }

    /// The answer.
    /// - Parameter targets: the rows' targets, when they were sent.
    public static func answer(_ predictions: Predictions, request: Request, draws: Int, targets: [Double]?) -> QueryBytes {
        var header: [String: JSONValue] = ["rows": .integer(request.rows.count), "draws": .integer(draws)]
        for (name, figure) in predictions.summary { header[name] = figure }
        if case .classes = predictions, !request.summary { header["classes"] = request.classes.map { .array($0.map { .string($0) }) } }
        if let targets {
            let score = predictions.score(targets)
            header["figures"] = .object(score.figures.mapValues { .number($0) })
            header["score"] = try? JSONValue(encoding: score)
        }
        return QueryBytes(verb: verb, header: .object(header), tensors: request.summary ? [:] : predictions.tensors)
    }

    /// What other verbs get.
    public static func unknown(_ verb: String, known: [String]) -> AccrueError {
        let close = StrictKeys.nearest(to: verb, in: known).map { "did you mean '\($0)'? " } ?? ""
        return AccrueError(.notFound, while: "answering '\(verb)'", "this method does not answer '\(verb)'", hint: "\(close)it answers \(known.joined(separator: ", "))")
    }
}
