public import AccrueCore
public import Foundation

/// Joins the pieces of uploads; the receiving side of `blob.put` and of large pushes. Pieces may come in any order and more than once.
public struct PieceAssembly: Sendable {
    public enum Progress: Equatable, Sendable {
        case partial(received: Int)
        /// All pieces are there and have the announced hash; the assembly has forgotten them.
        case whole(Data)
    }

    private struct Key: Hashable {
        var scope: String
        var hash: ContentHash
    }
    private struct Open {
        var bytes: Data
        var offsets: Set<Int> = []
        var received = 0
        var touched: MonotonicTime
    }

    private let bytesMax: Int
    private let openBytesMax: Int
    private let patienceMs: Int
    private var open: [Key: Open] = [:]

    /// - Parameters:
    ///   - bytesMax: of one whole.
    ///   - openBytesMax: of all unfinished wholes together; more are refused until some finish or go stale.
    ///   - patienceMs: an unfinished whole without a new piece for this long makes room when room is needed.
    public init(bytesMax: Int, openBytesMax: Int, patienceMs: Int = 60_000) {
        self.bytesMax = bytesMax
        self.openBytesMax = openBytesMax
        self.patienceMs = patienceMs
    }

    /// Takes one piece.
    /// - Parameter scope: who sends it: pieces of different senders are never mixed.
    /// - Throws: `invalidInput` for a piece off the grid of `Limits.pieceBytesMax` or of the wrong length, `limitExceeded` for too large a whole,
    ///   `unavailable` when there is no room now, `corrupt` when the whole does not have the hash (its pieces are forgotten).
    public mutating func add(
        _ piece: Data, offset: Int, totalBytes: Int, hash: ContentHash, scope: String, at now: MonotonicTime
    ) throws(AccrueError) -> Progress {
        let operation = "taking a piece of \(hash.short)"
        guard totalBytes >= 0, totalBytes <= bytesMax else {
            throw AccrueError(.limitExceeded, while: operation, "the whole has \(totalBytes) bytes; at most \(bytesMax) are allowed", hint: "send less at a time")
        }
        let expected = min(Limits.pieceBytesMax, totalBytes - min(max(0, offset), totalBytes))
        guard offset >= 0, offset % Limits.pieceBytesMax == 0, offset < max(1, totalBytes), piece.count == expected else {
            throw AccrueError(
                .invalidInput, while: operation, "\(piece.count) bytes at offset \(offset) of \(totalBytes)",
                hint: "offsets are multiples of \(Limits.pieceBytesMax); every piece but the last has that many bytes")
        }
        let key = Key(scope: scope, hash: hash)
        if let old = open[key], old.bytes.count != totalBytes {
            throw AccrueError(.invalidInput, while: operation, "totalBytes is \(totalBytes); an earlier piece said \(old.bytes.count)", hint: "say the same with every piece")
        }
        if open[key] == nil {
            try makeRoom(totalBytes, at: now, while: operation)
            open[key] = Open(bytes: Data(count: totalBytes), touched: now)
        }
        open[key]?.touched = now
        if open[key]?.offsets.insert(offset).inserted == true {
            open[key]?.bytes.replaceSubrange(offset..<offset + piece.count, with: piece)
            open[key]?.received += piece.count
        }
        guard let here = open[key], here.received == totalBytes else { return .partial(received: open[key]?.received ?? 0) }
        open[key] = nil
        guard ContentHash(of: here.bytes) == hash else {
            throw AccrueError(.corrupt, while: operation, "the pieces together do not have that SHA-256", hint: "send all pieces again")
        }
        return .whole(here.bytes)
    }

    private mutating func makeRoom(_ bytes: Int, at now: MonotonicTime, while operation: String) throws(AccrueError) {
        func used() -> Int { open.values.reduce(0) { $0 + $1.bytes.count } }
        if used() + bytes > openBytesMax { open = open.filter { now.ms(since: $0.value.touched) < patienceMs } }
        guard open.isEmpty || used() + bytes <= openBytesMax else {
            throw AccrueError(
                .unavailable, while: operation, "unfinished transfers take \(used()) bytes; at most \(openBytesMax) are allowed", hint: "wait", retryAfterMs: 500)
        }
    }
}
