public import AccrueCore

/// What a process is to the coordinator.
public enum Role: String, Codable, Sendable {
    /// Pushes, asks, administers.
    case client
    case worker
    case querier
}

/// The first message of a connection, and again after every coordinator boot.
public struct Hello: Codable, Equatable, Sendable {
    public var role: Role
    /// The worker's or querier's id: stable over restarts, unique in the cluster.
    public var name: String?
    /// A nonce of the process; of two sessions with one name the newest wins.
    public var boot: String?
    /// Where others reach it: a worker's ingest endpoint, a querier's query endpoint.
    public var endpoint: String?
    public init(role: Role, name: String? = nil, boot: String? = nil, endpoint: String? = nil) {
        self.role = role
        self.name = name
        self.boot = boot
        self.endpoint = endpoint
    }
}

/// Where the sockets of a cluster are.
public struct Endpoints: Codable, Equatable, Sendable {
    public var bulk: String
    public var events: String
    /// One a live worker, by worker id.
    public var ingest: [String]
    public var query: [String]
    public init(bulk: String, events: String, ingest: [String] = [], query: [String] = []) {
        self.bulk = bulk
        self.events = events
        self.ingest = ingest
        self.query = query
    }
}

/// The limits that a client must keep to; those of `Limits`.
public struct WireLimits: Codable, Equatable, Sendable {
    public var pieceBytes: Int
    public var piecesInFlight: Int
    public var chunkBytes: Int
    public var chunkRows: Int
    public var queryRows: Int
    /// Nil: of a daemon that takes one chunk a push.
    public var pushChunks: Int?
    public init() {
        pieceBytes = Limits.pieceBytesMax
        piecesInFlight = Limits.piecesInFlightMax
        chunkBytes = Limits.chunkBytesMax
        chunkRows = Limits.chunkRowsMax
        queryRows = Limits.queryRowsMax
        pushChunks = Limits.pushChunksMax
    }
}

/// The answer to `hello`.
public struct Welcome: Codable, Equatable, Sendable {
    /// A nonce of the coordinator's process.
    public var boot: String
    public var `protocol`: String
    public var endpoints: Endpoints
    public var limits: WireLimits
    public init(boot: String, endpoints: Endpoints, limits: WireLimits = WireLimits()) {
        self.boot = boot
        self.protocol = Message.protocolVersion
        self.endpoints = endpoints
        self.limits = limits
    }
}

/// Sent once a second by workers (and queriers).
public struct Heartbeat: Codable, Equatable, Sendable {
    public var worker: String
    /// The lease that is being worked on.
    public var lease: LeaseIdentity?
    /// The fit's step counter: a lease whose counter stands still expires although its process lives.
    public var step: Int?
    public init(worker: String, lease: LeaseIdentity? = nil, step: Int? = nil) {
        self.worker = worker
        self.lease = lease
        self.step = step
    }
}

/// The answer to a heartbeat.
public struct HeartbeatReply: Codable, Equatable, Sendable {
    /// Of the coordinator; when it changes, say `hello` and send the inventory again.
    public var boot: String
    /// Changes with the set of pipelines; then ask `pipelines`.
    public var pipelines: ContentHash
    /// Changes with the authorised keys; then ask `keys`. Nil where no socket asks for a key.
    public var keys: ContentHash?
    public init(boot: String, pipelines: ContentHash, keys: ContentHash? = nil) {
        self.boot = boot
        self.pipelines = pipelines
        self.keys = keys
    }
}

/// A worker has nothing to do and would take a lease.
public struct Ready: Codable, Equatable, Sendable {
    public var worker: String
    public init(worker: String) { self.worker = worker }
}

/// The coordinator's order to stop working on a lease; nothing of it will be used.
public struct Cancel: Codable, Equatable, Sendable {
    public var lease: LeaseIdentity
    public init(lease: LeaseIdentity) { self.lease = lease }
}

/// The coordinator's leave to delete a chunk's bytes.
public struct Drop: Codable, Equatable, Sendable {
    public var incarnation: String
    public var identity: ContentHash
    public init(incarnation: String, identity: ContentHash) {
        self.incarnation = incarnation
        self.identity = identity
    }
}

/// What the coordinator publishes on `events`: there is something new; ask for it. Hints may be lost.
public struct Hint: Codable, Equatable, Sendable {
    public enum Kind: String, Codable, Sendable {
        /// A new version of the pipeline's posterior.
        case version
        /// A pipeline was made, changed state or was deleted.
        case pipeline
        /// Something else that `events` lists.
        case event
    }
    public var kind: Kind
    public var pipeline: String
    public var version: Int?
    public init(kind: Kind, pipeline: String, version: Int? = nil) {
        self.kind = kind
        self.pipeline = pipeline
        self.version = version
    }
}
