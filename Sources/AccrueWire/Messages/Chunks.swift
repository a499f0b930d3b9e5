public import AccrueCore

/// What an acknowledged chunk is, always exactly one of these.
public enum ChunkState: String, Codable, Sendable {
    case waiting, absorbed, setAside, forgotten
}

/// `chunks.list`: chunks after a position, at most `limit`.
public struct ChunksQuery: Codable, Equatable, Sendable {
    public var pipeline: String
    public var state: ChunkState?
    public var after: Int?
    public var limit: Int?
    public init(pipeline: String, state: ChunkState? = nil, after: Int? = nil, limit: Int? = nil) {
        self.pipeline = pipeline
        self.state = state
        self.after = after
        self.limit = limit
    }
}

/// One chunk of the log and what became of it.
public struct ChunkRecord: Codable, Equatable, Sendable {
    public var position: Int
    public var chunk: LogEntry.Chunk
    public var state: ChunkState
    public var reason: String?
    /// The version that absorbs it.
    public var version: Int?
    /// Workers that hold its bytes now.
    public var workers: [String]
    public init(position: Int, chunk: LogEntry.Chunk, state: ChunkState, reason: String? = nil, version: Int? = nil, workers: [String] = []) {
        self.position = position
        self.chunk = chunk
        self.state = state
        self.reason = reason
        self.version = version
        self.workers = workers
    }
}

/// The answer to `chunks.list`: in log order; ask again with `after` = the last position while `more`.
public struct ChunkListing: Codable, Equatable, Sendable {
    public var chunks: [ChunkRecord]
    public var more: Bool
    public init(chunks: [ChunkRecord], more: Bool) {
        self.chunks = chunks
        self.more = more
    }
}

/// `chunks.setAside` and, without a reason, `chunks.retry`.
public struct ChunkPositions: Codable, Equatable, Sendable {
    public var pipeline: String
    public var positions: [Int]
    public var reason: String?
    public init(pipeline: String, positions: [Int], reason: String? = nil) {
        self.pipeline = pipeline
        self.positions = positions
        self.reason = reason
    }
}

/// The answer to `chunks.setAside` (the position of the entry) and `chunks.retry` (the new positions of the chunks, in the order asked).
public struct PositionsReply: Codable, Equatable, Sendable {
    public var positions: [Int]
    public init(positions: [Int]) { self.positions = positions }
}
