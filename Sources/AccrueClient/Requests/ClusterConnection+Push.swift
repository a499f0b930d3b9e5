public import AccrueCore
public import AccrueWire
public import Foundation
import Synchronization

/// A chunk on its way to a pipeline.
public struct OutgoingChunk: Sendable {
    /// Safetensors: one tensor a schema entry, the first dimension counts rows.
    public var bytes: Data
    /// The producer's name for it: the same key never stands for two contents.
    public var key: String?
    /// What errors call it, where it is one of many: "the chunk that begins with row 500".
    public var title: String?
    public init(bytes: Data, key: String? = nil, title: String? = nil) {
        self.bytes = bytes
        self.key = key
        self.title = title
    }

    func named(_ error: AccrueError) -> AccrueError { title.map { error.adding(toOperation: ", \($0)") } ?? error }
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
            throw chunk.named(error)
        }
    }

    /// Small chunks are pushed together, up to so many bytes.
    private static let togetherBytesMax = 256 << 10

    /// Pushes chunks.
    ///
    /// With a window, small ones go several at a time, a fourth of the window at most: that costs all processes less than one at a time.
    /// - Parameters:
    ///   - window: chunks that may be unacknowledged. Only with 1 do they enter the log in this order.
    ///   - chunk: makes the chunk of an index, when it is its turn; once.
    ///   - acknowledged: told every acknowledgement, in the order of the chunks.
    /// - Throws: the first failure. Chunks after it may have been acknowledged when the window is larger than 1.
    public func push(
        count: Int, to pipeline: String, window: Int = 1, chunk: @escaping @Sendable (Int) throws(AccrueError) -> OutgoingChunk,
        acknowledged: (Int, Acknowledgement) -> Void
    ) async throws(AccrueError) {
        guard count > 0 else { return }
        // Producers that start together do not all begin with the same worker.
        let start = Int.random(in: 0..<1_024)
        // By the first one: chunks of one producer are alike, as a rule.
        let first = try chunk(0)
        let size = max(1, min(togetherMax, window / 4, Self.togetherBytesMax / max(1, first.bytes.count)))
        let failure = Mutex<AccrueError?>(nil)
        // Nothing is told behind a chunk that failed.
        var isBroken = false
        try await windowed(count: (count + size - 1) / size, window: window / size) { (group) async throws(AccrueError) -> (done: [Acknowledgement], isWhole: Bool) in
            // What another group could not do ends this one before it begins.
            if let error = failure.withLock({ $0 }) { throw error }
            var chunks: [OutgoingChunk] = []
            for index in group * size..<min(count, (group + 1) * size) { chunks.append(index == 0 ? first : try chunk(index)) }
            let (done, error) = await self.push(chunks, to: pipeline, turn: start + group)
            if let error { failure.withLock { $0 = $0 ?? error } }
            return (done: done, isWhole: error == nil)
        } each: { group, result in
            if isBroken { return }
            for (index, acknowledgement) in result.done.enumerated() { acknowledged(group * size + index, acknowledgement) }
            isBroken = !result.isWhole
        }
        if let error = failure.withLock({ $0 }) { throw error }
    }

    /// Pushes chunks in one message if they are small, else each in its own, all at once.
    /// - Returns: the acknowledgements of the chunks before the first without one, and what failed.
    private func push(_ chunks: [OutgoingChunk], to pipeline: String, turn: Int) async -> (done: [Acknowledgement], failure: AccrueError?) {
        guard chunks.count > 1, chunks.reduce(0, { $0 + $1.bytes.count }) <= Self.togetherBytesMax else {
            var done: [Acknowledgement] = []
            do throws(AccrueError) {
                try await windowed(count: chunks.count, window: chunks.count) { index throws(AccrueError) in
                    try await self.push(chunks[index], to: pipeline, turn: turn + index)
                } each: { done.append($1) }
                return (done, nil)
            } catch { return (done, error) }
        }
        var answers = [Acknowledgement?](repeating: nil, count: chunks.count)
        do throws(AccrueError) {
            try await pushTogether(chunks, to: pipeline, turn: turn, answers: &answers)
            return (answers.compactMap(\.self), nil)
        } catch { return (answers.prefix { $0 != nil }.compactMap(\.self), error) }
    }

    /// One message with all chunks; those that are refused for now go in another, when the worker says.
    private func pushTogether(_ chunks: [OutgoingChunk], to pipeline: String, turn: Int, answers: inout [Acknowledgement?]) async throws(AccrueError) {
        let operation = "pushing chunks to pipeline '\(pipeline)'", start = MonotonicTime.now()
        var left = Array(chunks.indices)
        while left.count > 1 {
            let parts = left.map { Push.Part(bytes: chunks[$0].bytes.count, key: chunks[$0].key) }
            var payload = Data(capacity: parts.reduce(0) { $0 + $1.bytes })
            for index in left { payload.append(chunks[index].bytes) }
            let message = try Message(.push, encoding: Push(pipeline: pipeline, chunks: parts), payload: [payload])
            let answer: Acknowledgements = try await withLive(.ingest, turn: turn, while: operation) { worker throws(AccrueError) in
                try await worker.request(message, timeoutMs: Self.pushMs).read()
            }
            guard answer.results.count == left.count else {
                throw AccrueError(.corrupt, while: operation, "\(answer.results.count) results on \(left.count) chunks", hint: "use the same release of Accrue everywhere")
            }
            var again: [Int] = [], alone: [Int] = [], waitMs = 0, failure: AccrueError?
            for (index, result) in zip(left, answer.results) {
                do throws(AccrueError) { answers[index] = try result.get() } catch {
                    if error.code == .unavailable, let ms = error.retryAfterMs, MonotonicTime.now().ms(since: start) + ms < Self.pushMs {
                        again.append(index)
                        waitMs = max(waitMs, ms)
                    } else if error.code == .unavailable {
                        alone.append(index)
                    } else {
                        failure = failure ?? chunks[index].named(error)
                    }
                }
            }
            if let failure { throw failure }
            // Another worker may take what this one does not.
            for index in alone { answers[index] = try await push(chunks[index], to: pipeline, turn: turn + 1) }
            left = again
            guard !left.isEmpty else { return }
            // Jitter, so that those who were refused together do not come back together.
            try? await Task.sleep(for: .milliseconds(waitMs + Int.random(in: 0...max(1, waitMs / 2))))
            if Task.isCancelled { throw AccrueError(.unavailable, while: operation, "the push was given up before its answer came") }
        }
        for index in left { answers[index] = try await push(chunks[index], to: pipeline, turn: turn) }
    }
}
