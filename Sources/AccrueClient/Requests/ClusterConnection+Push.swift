public import AccrueCore
public import AccrueWire
public import Foundation

/// A chunk on its way to a pipeline.
public struct OutgoingChunk: Sendable {
    /// Safetensors: one tensor a schema entry, the first dimension counts rows.
    public var bytes: Data
    /// The producer's name for it: the same key never stands for two contents.
    public var key: String?
    /// What errors call it, where it is one of many: "rows 500 to 999 of those given".
    public var title: String?
    public init(bytes: Data, key: String? = nil, title: String? = nil) {
        self.bytes = bytes
        self.key = key
        self.title = title
    }
}

extension ClusterConnection {
    /// A push may wait this long for a worker that lives but has no room.
    private static let pushMs = 600_000

    /// Pushes one chunk and waits for its acknowledgement: then it is on disk and in the log, and is never lost or counted twice.
    ///
    /// A worker that has no room is obeyed, one that dies is replaced by another; the same chunk sent twice is the same chunk.
    /// - Parameter turn: spreads chunks over the workers.
    /// - Throws: `invalidInput` when the chunk does not fit the schema, `notFound` for an unknown pipeline, `conflict` when the key stands for another
    ///   content, `limitExceeded`, `unavailable` when no worker takes it: the outcome is unknown then, and sending the same again is safe.
    public func push(_ chunk: OutgoingChunk, to pipeline: String, turn: Int = 0) async throws(AccrueError) -> Acknowledgement {
        let operation = "pushing a chunk to pipeline '\(pipeline)'"
        let bytes = chunk.bytes, total = chunk.bytes.count
        guard total <= Limits.chunkBytesMax else {
            throw AccrueError(
                .limitExceeded, while: operation, "the chunk has \(total) bytes; at most \(Limits.chunkBytesMax) are allowed", hint: "push fewer rows a chunk")
        }
        var push = Push(pipeline: pipeline, key: chunk.key)
        let isWhole = total <= Limits.frameBytesMax
        if !isWhole { push.hash = ContentHash(of: bytes) }
        let header = push
        do throws(AccrueError) {
            return try await withLive(.ingest, turn: turn, while: operation) { worker throws(AccrueError) in
                if isWhole { return try await worker.request(try Message(.push, encoding: header, payload: [bytes]), timeoutMs: Self.pushMs).read() }
                return try await worker.sendChunk(bytes, header: header, timeoutMs: Self.pushMs).read()
            }
        } catch {
            var error = error
            if let title = chunk.title { error.operation += ", \(title)" }
            throw error
        }
    }

    /// Pushes chunks.
    ///
    /// - Parameters:
    ///   - window: chunks that may be unacknowledged. Only with 1 do they enter the log in this order.
    ///   - chunk: makes the chunk of an index, when it is its turn.
    ///   - acknowledged: told every acknowledgement, in the order of the chunks.
    /// - Throws: the first failure. Chunks after it may have been acknowledged when the window is larger than 1.
    public func push(
        count: Int, to pipeline: String, window: Int = 1, chunk: @escaping @Sendable (Int) throws(AccrueError) -> OutgoingChunk,
        acknowledged: (Int, Acknowledgement) -> Void
    ) async throws(AccrueError) {
        // Producers that start together do not all begin with the same worker.
        let start = Int.random(in: 0..<1_024)
        try await windowed(count: count, window: window) { index throws(AccrueError) in
            try await self.push(try chunk(index), to: pipeline, turn: start + index)
        } each: { acknowledged($0, $1) }
    }
}
