import AccrueClient
import AccrueCore
import Foundation
import Hummingbird

/// What a request's path and query string say, read strictly.
struct Parameters {
    private let request: Request
    private let context: BasicRequestContext
    let operation: String

    /// - Parameter known: the keys that the query string may have.
    /// - Throws: `invalidInput` for a key that is not known, naming the nearest that is, or stands there twice.
    init(_ request: Request, _ context: BasicRequestContext, known: [String] = [], while operation: (_ pipeline: String) -> String) throws(AccrueError) {
        self.request = request
        self.context = context
        self.operation = operation(context.parameters.get("name") ?? "")
        var keys: [String: JSONValue] = [:]
        for (key, _) in request.uri.queryParameters where keys.updateValue(.null, forKey: String(key)) != nil {
            throw AccrueError(.invalidInput, while: self.operation, "'\(key)' stands in the query string twice")
        }
        try StrictKeys.check(.object(keys), known: known, while: self.operation)
    }

    /// The pipeline of the path.
    var pipeline: String { context.parameters.get("name") ?? "" }

    func path(_ name: String) -> String { context.parameters.get(name) ?? "" }

    func text(_ key: String) -> String? { request.uri.queryParameters[key[...]].map(String.init) }

    /// - Throws: `invalidInput` unless it is missing or a whole number of the range.
    func whole(_ key: String, in range: ClosedRange<Int> = 0...Int.max) throws(AccrueError) -> Int? {
        guard let text = text(key) else { return nil }
        return try whole(text, key, in: range)
    }

    func whole(_ text: String, _ key: String, in range: ClosedRange<Int> = 0...Int.max) throws(AccrueError) -> Int {
        guard let number = Int(text), range.contains(number) else {
            let limits = range.upperBound == .max ? "of at least \(range.lowerBound)" : "from \(range.lowerBound) to \(range.upperBound)"
            throw AccrueError(.invalidInput, while: operation, "'\(key)' is \(text); it must be a whole number \(limits)")
        }
        return number
    }

    /// Items of a page; nil: as many as one may have.
    func limit() throws(AccrueError) -> Int? { try whole("limit", in: 1...Limits.pageItemsMax) }

    /// - Throws: `invalidInput` unless it is missing, `true` or `false`.
    func flag(_ key: String) throws(AccrueError) -> Bool {
        switch text(key) {
        case nil, "false": return false
        case "true": return true
        case let other?: throw AccrueError(.invalidInput, while: operation, "'\(key)' is \(other); it must be true or false")
        }
    }
}

extension ClusterConnection {
    /// Rows as JSON, read by the schema of the pipeline that is asked.
    func rows(_ tensors: JSONValue, _ asked: Parameters) async throws(AccrueError) -> TensorRows {
        try TensorRows(json: tensors, schema: try await pipeline(asked.pipeline).declaration.schema, while: asked.operation)
    }
}

extension Request {
    /// Whether the body is JSON, by what the request says of it.
    var isJSON: Bool { headers[.contentType].map { $0.lowercased().hasPrefix("application/json") } ?? false }

    /// The tensors of a body that is not JSON.
    /// - Throws: `invalidInput` when it is no safetensors file either.
    func tensors(of body: Data, while operation: String) throws(AccrueError) -> [String: TensorBytes] {
        do throws(AccrueError) { return try Safetensors.decode(body).tensors } catch {
            throw AccrueError(
                .invalidInput, while: operation, "the body is not safetensors: \(error.problem)", hint: "send safetensors, or JSON with the header 'Content-Type: application/json'")
        }
    }
}
