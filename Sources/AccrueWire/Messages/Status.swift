public import AccrueCore

/// The answer to `status`.
public struct ClusterStatus: Codable, Equatable, Sendable {
    public var boot: String
    public var pipelines: [PipelineStatus]
    public var workers: [WorkerStatus]
    public init(boot: String, pipelines: [PipelineStatus], workers: [WorkerStatus]) {
        self.boot = boot
        self.pipelines = pipelines
        self.workers = workers
    }
}

/// How a pipeline is.
public struct PipelineStatus: Codable, Equatable, Sendable {
    public enum State: String, Codable, Sendable {
        case active
        /// Stopped until a person says `pipeline.resume`; `reason` says why.
        case paused
        /// The only copy of a chunk is on a worker that is away; goes on by itself when that returns.
        case blocked
    }
    /// What a blocked pipeline waits for.
    public struct Blocked: Codable, Equatable, Sendable {
        public var position: Int
        public var chunk: ContentHash
        public var worker: String?
        public var sinceMs: Int
        public init(position: Int, chunk: ContentHash, worker: String?, sinceMs: Int) {
            self.position = position
            self.chunk = chunk
            self.worker = worker
            self.sinceMs = sinceMs
        }
    }
    /// Chunks and their rows.
    public struct Amount: Codable, Equatable, Sendable {
        public var chunks: Int
        public var rows: Int
        public init(chunks: Int = 0, rows: Int = 0) {
            self.chunks = chunks
            self.rows = rows
        }
    }

    public var name: String
    public var incarnation: String
    public var state: State
    /// Why it is paused or blocked, or, where it is active, why its work fails again and again.
    public var reason: String?
    public var blocked: Blocked?
    public var version: Int
    /// The last position of the log.
    public var position: Int
    public var absorbed: Amount
    public var waiting: Amount
    public var setAside: Amount
    /// Workers that hold a lease of this pipeline now.
    public var workers: Int
    /// Figures of the last version's score.
    public var figures: [String: Double]?

    public init(
        name: String, incarnation: String, state: State = .active, reason: String? = nil, blocked: Blocked? = nil, version: Int = 0,
        position: Int = 0, absorbed: Amount = Amount(), waiting: Amount = Amount(), setAside: Amount = Amount(), workers: Int = 0,
        figures: [String: Double]? = nil
    ) {
        self.name = name
        self.incarnation = incarnation
        self.state = state
        self.reason = reason
        self.blocked = blocked
        self.version = version
        self.position = position
        self.absorbed = absorbed
        self.waiting = waiting
        self.setAside = setAside
        self.workers = workers
        self.figures = figures
    }
}

/// A worker or querier as the coordinator knows it.
public struct WorkerStatus: Codable, Equatable, Sendable {
    public var name: String
    public var role: Role
    public var endpoint: String?
    public var alive: Bool
    public var lease: LeaseIdentity?
    public var step: Int?
    public init(name: String, role: Role, endpoint: String?, alive: Bool, lease: LeaseIdentity? = nil, step: Int? = nil) {
        self.name = name
        self.role = role
        self.endpoint = endpoint
        self.alive = alive
        self.lease = lease
        self.step = step
    }
}

/// `await`: answered when the position is absorbed or set aside, or after `timeoutMs`.
public struct AwaitPosition: Codable, Equatable, Sendable {
    public var pipeline: String
    public var position: Int
    public var timeoutMs: Int
    public init(pipeline: String, position: Int, timeoutMs: Int) {
        self.pipeline = pipeline
        self.position = position
        self.timeoutMs = timeoutMs
    }
}

/// The answer to `await`.
public struct Awaited: Codable, Equatable, Sendable {
    public var state: ChunkState
    /// Why it is set aside.
    public var reason: String?
    /// The version that absorbs it.
    public var version: Int?
    public init(state: ChunkState, reason: String? = nil, version: Int? = nil) {
        self.state = state
        self.reason = reason
        self.version = version
    }
}

/// `events`: what happened after an event number.
public struct EventsQuery: Codable, Equatable, Sendable {
    public var after: Int
    public var limit: Int?
    public init(after: Int, limit: Int? = nil) {
        self.after = after
        self.limit = limit
    }
}

/// One thing that happened, for people.
public struct EventRecord: Codable, Equatable, Sendable {
    public var number: Int
    public var atMs: Int
    public var pipeline: String?
    /// `version`, `drift`, `collapse`, `setAside`, `paused`, `resumed`, `blocked`, `applied`, `deleted`, `workerJoined`, `workerLost`, `leaseLost`.
    public var kind: String
    public var text: String
    public init(number: Int, atMs: Int, pipeline: String?, kind: String, text: String) {
        self.number = number
        self.atMs = atMs
        self.pipeline = pipeline
        self.kind = kind
        self.text = text
    }
}

/// The answer to `events`: in order.
public struct EventListing: Codable, Equatable, Sendable {
    public var events: [EventRecord]
    public init(events: [EventRecord]) { self.events = events }
}
