public import AccrueCore

/// The steps of a round that are leased to workers.
public enum LeasePhase: String, Codable, Sendable, CaseIterable {
    /// Make version 0.
    case initial
    /// Make a version of what is imported, or with the classes that are appended.
    case adopt, adapt
    /// Try on the newest version what `adopt` or `adapt` would do; nothing is kept of it.
    case check
    /// Score some rows of one chunk with the last version.
    case score
    case fit, merge, statistics, finish
}

/// Which piece of work a lease is for. An answer whose identity is not the coordinator's current one is dropped.
public struct LeaseIdentity: Codable, Hashable, Sendable {
    public var pipeline: String
    public var incarnation: String
    /// A nonce of the coordinator's process.
    public var boot: String
    /// The version being made.
    public var version: Int
    public var attempt: Int
    public var phase: LeasePhase
    public var sweep: Int
    /// The shard (fit, statistics) or the index among the round's score parts (score).
    public var shard: Int

    public init(
        pipeline: String, incarnation: String, boot: String, version: Int, attempt: Int, phase: LeasePhase, sweep: Int = 0, shard: Int = 0
    ) {
        self.pipeline = pipeline
        self.incarnation = incarnation
        self.boot = boot
        self.version = version
        self.attempt = attempt
        self.phase = phase
        self.sweep = sweep
        self.shard = shard
    }
}

/// Everything a worker needs to do one piece of work, as names of bytes: it fetches what it does not have.
public struct LeaseTask: Codable, Equatable, Sendable {
    public struct Shard: Codable, Equatable, Sendable {
        public var blob: ContentHash
        /// Rows of the shard that the blob came from.
        public var rows: Int
        public init(blob: ContentHash, rows: Int) {
            self.blob = blob
            self.rows = rows
        }
    }

    public var identity: LeaseIdentity
    public var declaration: PipelineDeclaration
    /// Shards of the round.
    public var shards: Int
    public var roundRows: Int
    /// Rows absorbed by earlier versions.
    public var rowsBefore: Int
    /// Whether nothing was learned or imported before; nil: whether this makes version 1.
    public var isFirst: Bool?
    /// What is imported (adopt, check).
    public var imported: ContentHash?
    /// The schema of `base`; the declaration has the new one (adapt, check).
    public var from: Schema?
    /// The state of the last version; nil in phase `initial`.
    public var base: ContentHash?
    /// The work after the last merged sweep; nil in sweep 0, where the worker derives it from `base` by `begin`.
    public var work: ContentHash?
    /// The rows of the shard (fit, statistics) or of the part of a chunk (score).
    public var rows: [RowRange]
    /// Ingest endpoints that hold each chunk of `rows`, by chunk identity.
    public var locations: [String: [String]]
    /// One a shard, in shard order: deltas (merge) or moments (finish).
    public var parts: [Shard]
    /// The pooled score of the round (finish).
    public var score: Score?

    public init(
        identity: LeaseIdentity, declaration: PipelineDeclaration, shards: Int = 0, roundRows: Int = 0, rowsBefore: Int = 0,
        base: ContentHash? = nil, work: ContentHash? = nil, rows: [RowRange] = [], locations: [String: [String]] = [:], parts: [Shard] = [],
        score: Score? = nil
    ) {
        self.identity = identity
        self.declaration = declaration
        self.shards = shards
        self.roundRows = roundRows
        self.rowsBefore = rowsBefore
        self.base = base
        self.work = work
        self.rows = rows
        self.locations = locations
        self.parts = parts
        self.score = score
    }
}

/// What a worker says when a lease is done.
public struct LeaseDone: Codable, Equatable, Sendable {
    public var worker: String
    public var lease: LeaseIdentity
    /// The state, delta, work or moments, already put at the coordinator; nil for scores, and for statistics of a method that has none.
    public var blob: ContentHash?
    public var score: Score?
    public var report: FitReport?
    /// In phase `initial`: which optional phases the method takes part in.
    public var phases: MethodPhases?
    /// In phase `finish`: what is to be said of the version.
    public var remarks: [Remark]?

    public init(
        worker: String, lease: LeaseIdentity, blob: ContentHash? = nil, score: Score? = nil, report: FitReport? = nil, phases: MethodPhases? = nil,
        remarks: [Remark]? = nil
    ) {
        self.worker = worker
        self.lease = lease
        self.blob = blob
        self.score = score
        self.report = report
        self.phases = phases
        self.remarks = remarks
    }
}

/// What a worker says when a lease failed.
public struct LeaseFailed: Codable, Equatable, Sendable {
    public enum Kind: String, Codable, Sendable {
        /// The method returned the error: it counts against the data.
        case method
        /// Rows or blobs could not be had, or the worker was told to stop: it never counts against the data.
        case environment
    }
    public var worker: String
    public var lease: LeaseIdentity
    public var kind: Kind
    public var error: AccrueError
    public init(worker: String, lease: LeaseIdentity, kind: Kind, error: AccrueError) {
        self.worker = worker
        self.lease = lease
        self.kind = kind
        self.error = error
    }
}
