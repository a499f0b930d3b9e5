public import AccrueCore

/// A pipeline as the store holds it.
public struct StoredPipeline: Equatable, Sendable {
    public var incarnation: String
    public var declaration: PipelineDeclaration
    public var phases: MethodPhases
    /// Why learning is paused; nil while it is not.
    public var paused: String?
    public init(incarnation: String, declaration: PipelineDeclaration, phases: MethodPhases, paused: String? = nil) {
        self.incarnation = incarnation
        self.declaration = declaration
        self.phases = phases
        self.paused = paused
    }
}

/// A version as the store holds it.
public struct VersionRecord: Codable, Equatable, Sendable {
    public var version: Int
    public var state: ContentHash
    /// The last log position of the version's stretch.
    public var through: Int
    public var absorbedChunks: Int
    public var absorbedRows: Int
    /// The stretch scored with the version before.
    public var score: Score?
    public var reports: [FitReport]
    /// Size of the state.
    public var bytes: Int
    /// Milliseconds since 1970, by the coordinator's clock; for people, never part of a state.
    public var createdAtMs: Int

    public init(
        version: Int, state: ContentHash, bytes: Int = 0, through: Int, absorbedChunks: Int, absorbedRows: Int, score: Score? = nil,
        reports: [FitReport] = [], createdAtMs: Int = 0
    ) {
        self.version = version
        self.state = state
        self.bytes = bytes
        self.createdAtMs = createdAtMs
        self.through = through
        self.absorbedChunks = absorbedChunks
        self.absorbedRows = absorbedRows
        self.score = score
        self.reports = reports
    }
}

/// A chunk to append, and the workers on whose disks it is.
public struct AnnouncedChunk: Equatable, Sendable {
    public var chunk: LogEntry.Chunk
    public var workers: [String]
    public init(_ chunk: LogEntry.Chunk, workers: [String] = []) {
        self.chunk = chunk
        self.workers = workers
    }
}

/// What appending a chunk came to.
public enum AppendResult: Equatable, Sendable {
    case appended(position: Int)
    /// The log has it already, at this position.
    case duplicate(position: Int)
    /// The key is taken by other content, at this position.
    case conflict(position: Int)
}

/// Where an acknowledged chunk stands; exactly one of these at any time.
public enum ChunkStanding: Equatable, Sendable {
    case waiting
    case absorbed(version: Int)
    case setAside(reason: String)
}
