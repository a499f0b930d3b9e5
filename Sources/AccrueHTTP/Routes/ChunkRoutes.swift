import AccrueClient
import AccrueCore
import AccrueWire
import Foundation
import Hummingbird

/// Chunks: pushed, listed, waited for.
struct ChunkRoutes: Sendable {
    let cluster: ClusterConnection
    let room: BodyRoom

    func add(to chunks: RouterGroup<BasicRequestContext>) {
        chunks.post { request, context in
            let asked = try Parameters(request, context, known: ["key", "wait"]) { "pushing a chunk to pipeline '\($0)'" }
            let wait = try asked.flag("wait")
            let taken = try await room.withBody(of: request, atMost: Limits.chunkBytesMax, mostJSON: Limits.httpTextBytesMax, while: asked.operation) { bytes in
                if !request.isJSON { _ = try request.tensors(of: bytes, while: asked.operation) }
                let chunk = request.isJSON ? try await rows(bytes, asked).chunk() : bytes
                return try await cluster.push(OutgoingChunk(bytes: chunk, key: asked.text("key")), to: asked.pipeline, turn: Int.random(in: 0..<1_024))
            }
            return wait ? try await absorbed(taken, asked) : try Response.json(encoding: taken)
        }
        chunks.get { request, context in
            let asked = try Parameters(request, context, known: ["state", "after", "limit"]) { "listing chunks of pipeline '\($0)'" }
            let state = try asked.text("state").map { text throws(AccrueError) in
                guard let state = ChunkState(rawValue: text) else {
                    throw AccrueError(.invalidInput, while: asked.operation, "'state' is \(text); it must be waiting, absorbed, setAside or forgotten")
                }
                return state
            }
            return try Response.json(encoding: try await cluster.chunks(ChunksQuery(
                pipeline: asked.pipeline, state: state, after: try asked.whole("after"), limit: try asked.limit())))
        }
        chunks.get(":position") { request, context in
            let asked = try Parameters(request, context, known: ["waitMs"]) { "waiting for a chunk of pipeline '\($0)'" }
            return try Response.json(encoding: try await cluster.outcome(
                ofPosition: try asked.whole(asked.path("position"), "position"), in: asked.pipeline, timeoutMs: try asked.whole("waitMs", in: 0...Limits.httpWaitMsMax) ?? 0))
        }
        chunks.post("retry") { request, context in
            let asked = try Parameters(request, context) { "retrying chunks of pipeline '\($0)'" }
            let (positions, _) = try await told(request, asked)
            return try Response.json(encoding: PositionsReply(positions: try await cluster.retry(positions, of: asked.pipeline)))
        }
        chunks.post("set-aside") { request, context in
            let asked = try Parameters(request, context) { "setting aside chunks of pipeline '\($0)'" }
            let (positions, reason) = try await told(request, asked)
            guard let reason, !reason.isEmpty else { throw AccrueError(.invalidInput, while: asked.operation, "'reason' is missing", hint: #"write {"positions": [3], "reason": "wrong labels"}"#) }
            return try Response.json(encoding: PositionsReply(positions: try await cluster.setAside(positions, of: asked.pipeline, reason: reason)))
        }
    }

    private func rows(_ bytes: Data, _ asked: Parameters) async throws(AccrueError) -> TensorRows {
        let body = try JSONValue(parsing: bytes)
        try StrictKeys.check(body, known: ["tensors"], while: asked.operation)
        return try await cluster.rows(body["tensors"] ?? .null, asked)
    }

    /// Ends the open round and waits until the chunk is no longer waiting, as long as a request may: who asked may be gone.
    private func absorbed(_ taken: Acknowledgement, _ asked: Parameters) async throws(AccrueError) -> Response {
        _ = try await cluster.flush(asked.pipeline, isPatient: true)
        let outcome = try await cluster.outcome(ofPosition: taken.position, in: asked.pipeline, timeoutMs: Limits.httpWaitMsMax)
        guard outcome.state != .waiting else {
            throw AccrueError(
                .unavailable, while: asked.operation, "it is acknowledged, and still waits to be learned after \(Limits.httpWaitMsMax / 1_000) s",
                hint: "ask GET /v1/pipelines/\(asked.pipeline)/chunks/\(taken.position)?waitMs=60000", position: taken.position, retryAfterMs: 1_000)
        }
        guard outcome.state == .absorbed else {
            throw AccrueError(
                .conflict, while: asked.operation, "it is \(outcome.state == .forgotten ? "forgotten" : "set aside"): \(outcome.reason ?? "no reason is known")",
                hint: "see GET /v1/events", position: taken.position)
        }
        // Queries are answered from that version on; that a querier is late does not make the chunk less absorbed.
        if let version = outcome.version { try? await cluster.served(version, of: asked.pipeline) }
        var fields = try JSONValue(encoding: taken).object ?? [:]
        fields["version"] = outcome.version.map { .integer($0) }
        return .json(.object(fields))
    }

    private func told(_ request: Request, _ asked: Parameters) async throws -> (positions: [Int], reason: String?) {
        try await room.withBody(of: request, atMost: Limits.headerBytesMax, while: asked.operation) { bytes in
            let body = try JSONValue(parsing: bytes)
            try StrictKeys.check(body, known: ["positions", "reason"], while: asked.operation)
            guard let positions = body["positions"]?.array, !positions.isEmpty, positions.allSatisfy({ $0.int != nil }) else {
                throw AccrueError(.invalidInput, while: asked.operation, "'positions' is no list of positions", hint: #"write {"positions": [3, 4]}"#)
            }
            return (positions.compactMap(\.int), body["reason"]?.string)
        }
    }
}
