import AccrueClient
import AccrueCore
import Foundation
import Hummingbird

/// Questions to a posterior; what can be asked depends on the pipeline's method.
struct QueryRoutes: Sendable {
    let cluster: ClusterConnection
    let room: BodyRoom

    func add(to queries: RouterGroup<BasicRequestContext>) {
        queries.get(":verb") { request, context in try await answer(nil, try parameters(request, context), request) }
        queries.post(":verb") { request, context in
            let asked = try parameters(request, context)
            return try await room.withBody(of: request, atMost: Limits.httpTextBytesMax, mostJSON: Limits.httpTextBytesMax, while: asked.operation) { try await answer($0, asked, request) }
        }
    }

    private func parameters(_ request: Request, _ context: BasicRequestContext) throws(AccrueError) -> Parameters {
        try Parameters(request, context, known: ["at", "atLeast", "seed", "draws", "summary"]) { "asking pipeline '\($0)' to '\(context.parameters.get("verb") ?? "")'" }
    }

    /// - Parameter body: safetensors, or JSON with `tensors` and `header`.
    private func answer(_ body: Data?, _ asked: Parameters, _ request: Request) async throws -> Response {
        var fields: [String: JSONValue] = [:]
        var rows: TensorRows?
        if let body, !body.isEmpty {
            if request.isJSON {
                let content = try JSONValue(parsing: body)
                try StrictKeys.check(content, known: ["tensors", "header"], while: asked.operation)
                if let header = content["header"] {
                    guard let object = header.object else { throw AccrueError(.invalidInput, while: asked.operation, "'header' is not a JSON object") }
                    fields = object
                }
                if let tensors = content["tensors"] { rows = try await cluster.rows(tensors, asked) }
            } else {
                rows = try TensorRows(try request.tensors(of: body, while: asked.operation), while: asked.operation)
            }
        }
        if let draws = try asked.whole("draws", in: 1...Limits.queryDrawsMax) { fields["draws"] = .integer(draws) }
        if try asked.flag("summary") { fields["summary"] = true }
        let verb = asked.path("verb")
        let question = PosteriorQuestion(
            pipeline: asked.pipeline, content: QueryBytes(verb: verb, header: .object(fields), tensors: rows?.tensors ?? [:]), at: try asked.whole("at"), atLeast: try asked.whole("atLeast"),
            seed: try asked.whole("seed"))
        let answer = if let rows, verb == "predict" { try await cluster.query(question, rows: rows) } else { try await cluster.query(question) }
        return .json(answer.json)
    }
}
