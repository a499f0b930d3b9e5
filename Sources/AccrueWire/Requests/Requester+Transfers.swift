public import AccrueCore
public import Foundation

extension Requester {
    /// Sends bytes in pieces of at most `Limits.pieceBytesMax`, at most `Limits.piecesInFlightMax` unanswered.
    ///
    /// The answer that completes the transfer is the one without `complete: false`. When the other side forgot the first pieces (it was restarted),
    /// all are sent again.
    /// - Parameters:
    ///   - progress: called after each piece.
    ///   - piece: the message for the bytes at an offset, with them as payload.
    /// - Returns: the answer that completed the transfer.
    /// - Throws: the error of a refusal; `unavailable` when the other side does not answer or never has all.
    public func upload(
        _ bytes: Data, timeoutMs: Int = 60_000, progress: () -> Void = {}, piece: @Sendable (_ offset: Int, _ payload: Data) throws(AccrueError) -> Message
    ) async throws(AccrueError) -> Message {
        var offsets: [(offset: Int, message: Message)] = []
        for offset in stride(from: 0, to: max(1, bytes.count), by: Limits.pieceBytesMax) {
            let start = bytes.startIndex + offset
            offsets.append((offset, try piece(offset, bytes[start..<min(bytes.endIndex, start + Limits.pieceBytesMax)])))
        }
        for _ in 0..<3 {
            var complete: Message?
            try await windowed(offsets.map(\.message), timeoutMs: timeoutMs) { _, answer in
                progress()
                if answer.header["complete"]?.bool != false { complete = answer }
                return complete == nil
            }
            if let complete { return complete }
        }
        throw AccrueError(
            .unavailable, while: "sending \(bytes.count) bytes to \(address)", "all pieces were answered three times, but they never became a whole",
            hint: "the other side restarts too often, or is short of memory", retryAfterMs: 1_000)
    }

    /// Fetches bytes in pieces.
    /// - Parameters:
    ///   - expecting: the SHA-256 that the bytes must have.
    ///   - progress: called after each piece.
    ///   - range: the message that asks for `length` bytes at `offset`; answered with a `RangeReply` and one payload frame.
    /// - Throws: the error of a refusal; `corrupt` when the bytes are not those of the hash; `limitExceeded` for more than `bytesMax`.
    public func download(
        bytesMax: Int, expecting hash: ContentHash?, timeoutMs: Int = 60_000, progress: () -> Void = {},
        range: @Sendable (_ offset: Int, _ length: Int) throws(AccrueError) -> Message
    ) async throws(AccrueError) -> Data {
        let operation = "fetching \(hash.map(\.short) ?? "bytes") from \(address)"
        let first = try await request(try range(0, Limits.pieceBytesMax), timeoutMs: timeoutMs)
        let total = try first.read(RangeReply.self).totalBytes
        guard total >= 0, total <= bytesMax else {
            throw AccrueError(.limitExceeded, while: operation, "\(total) bytes; at most \(bytesMax) are allowed")
        }
        var pieces = [first.payload.first ?? Data()]
        var messages: [Message] = []
        for offset in stride(from: Limits.pieceBytesMax, to: total, by: Limits.pieceBytesMax) {
            messages.append(try range(offset, min(Limits.pieceBytesMax, total - offset)))
            pieces.append(Data())
        }
        progress()
        try await windowed(messages, timeoutMs: timeoutMs) { index, answer in
            progress()
            pieces[index + 1] = answer.payload.first ?? Data()
            return true
        }
        var bytes = Data(capacity: total)
        for piece in pieces { bytes.append(piece) }
        guard bytes.count == total else { throw AccrueError(.corrupt, while: operation, "\(bytes.count) bytes came; \(total) were announced", hint: "try again") }
        if let hash, ContentHash(of: bytes) != hash { throw AccrueError(.corrupt, while: operation, "the bytes do not have that SHA-256", hint: "try again, from another holder") }
        return bytes
    }

    /// Sends a chunk's safetensors bytes in pieces, as a `push` or a `replicate`.
    /// - Parameter push: the header of every piece but for its place; with the bytes' hash.
    /// - Returns: the answer to the whole.
    public func sendChunk(_ bytes: Data, as verb: Verb = .push, header push: Push, timeoutMs: Int = 60_000) async throws(AccrueError) -> Message {
        let total = bytes.count
        return try await upload(bytes, timeoutMs: timeoutMs) { offset, payload throws(AccrueError) in
            var piece = push
            piece.offset = offset
            piece.totalBytes = total
            return try Message(verb, encoding: piece, payload: [payload])
        }
    }

    /// Puts a blob at the coordinator.
    public func putBlob(_ bytes: Data, kind: BlobPut.Kind, timeoutMs: Int = 60_000, progress: () -> Void = {}) async throws(AccrueError) -> ContentHash {
        let hash = ContentHash(of: bytes)
        let total = bytes.count
        _ = try await upload(bytes, timeoutMs: timeoutMs, progress: progress) { offset, payload throws(AccrueError) in
            try Message(.blobPut, encoding: BlobPut(hash: hash, kind: kind, offset: offset, totalBytes: total), payload: [payload])
        }
        return hash
    }

    /// Fetches a blob from the coordinator.
    public func getBlob(_ hash: ContentHash, timeoutMs: Int = 60_000, progress: () -> Void = {}) async throws(AccrueError) -> Data {
        try await download(bytesMax: Limits.blobBytesMax, expecting: hash, timeoutMs: timeoutMs, progress: progress) { offset, length throws(AccrueError) in
            try Message(.blobGet, encoding: BlobGet(hash: hash, offset: offset, length: length))
        }
    }

    /// Fetches a chunk's safetensors bytes from the worker at this requester's endpoint. Their identity is the caller's to check: it is over the
    /// content, not over these bytes.
    public func fetchChunk(
        _ identity: ContentHash, incarnation: String, timeoutMs: Int = 60_000, progress: () -> Void = {}
    ) async throws(AccrueError) -> Data {
        try await download(bytesMax: Limits.chunkBytesMax, expecting: nil, timeoutMs: timeoutMs, progress: progress) { offset, length throws(AccrueError) in
            try Message(.fetch, encoding: Fetch(incarnation: incarnation, identity: identity, offset: offset, length: length))
        }
    }

    /// Sends requests, at most `Limits.piecesInFlightMax` unanswered; `each` sees the answers as they come and ends the sending with false.
    private func windowed(_ messages: [Message], timeoutMs: Int, each: (Int, Message) -> Bool) async throws(AccrueError) {
        let failure = await withTaskGroup(of: (Int, Result<Message, AccrueError>).self) { group -> AccrueError? in
            var next = 0
            func launch() {
                let index = next
                next += 1
                group.addTask { [self] in
                    do throws(AccrueError) { return (index, .success(try await request(messages[index], timeoutMs: timeoutMs))) } catch { return (index, .failure(error)) }
                }
            }
            while next < min(messages.count, Limits.piecesInFlightMax) { launch() }
            var failure: AccrueError?
            var going = true
            for await (index, result) in group {
                switch result {
                case .success(let answer): if !each(index, answer) { going = false }
                case .failure(let error): failure = failure ?? error
                }
                if going, failure == nil, next < messages.count { launch() }
            }
            return failure
        }
        if let failure { throw failure }
    }
}
