public import AccrueCore

/// A worker tells the coordinator of chunks of one pipeline that are on its disk.
public struct Announce: Codable, Hashable, Sendable {
    public struct Item: Codable, Hashable, Sendable {
        public var chunk: LogEntry.Chunk
        /// Where it is on disk too; nil: nowhere.
        public var replicas: [Replica]?
        public init(_ chunk: LogEntry.Chunk, replicas: [Replica]? = nil) {
            self.chunk = chunk
            self.replicas = replicas
        }
    }

    public var worker: String
    public var pipeline: String
    public var incarnation: String
    /// In the order in which they are to enter the log.
    public var items: [Item]
    public init(worker: String, pipeline: String, incarnation: String, items: [Item]) {
        self.worker = worker
        self.pipeline = pipeline
        self.incarnation = incarnation
        self.items = items
    }
}

/// The answer to an announcement.
public struct AnnounceReply: Codable, Equatable, Sendable {
    /// What became of one chunk: where it stands, or why it is not taken.
    public struct Result: Codable, Equatable, Sendable {
        public var position: Int?
        public var duplicate: Bool?
        public var error: AccrueError?

        public static func taken(at position: Int, duplicate: Bool) -> Result { Result(position: position, duplicate: duplicate) }
        public static func refused(_ error: AccrueError) -> Result { Result(error: error) }

        /// What the producer of the chunk is told.
        /// - Throws: the error with which it is not taken; `corrupt` when there is neither that nor a position.
        public func acknowledgement(of chunk: ContentHash) throws(AccrueError) -> Acknowledgement {
            guard let position else { throw error ?? AnnounceReply.unreadable("a result has neither a position nor an error") }
            return Acknowledgement(chunk: chunk, position: position, duplicate: duplicate ?? false)
        }
    }
    /// One an item, in order.
    public var results: [Result]
    public init(results: [Result]) { self.results = results }

    /// - Throws: `corrupt` unless there is one result an item.
    public func check(items: Int) throws(AccrueError) {
        guard results.count == items else { throw Self.unreadable("\(results.count) results on \(items) chunks") }
    }

    private static func unreadable(_ problem: String) -> AccrueError {
        AccrueError(.corrupt, while: "announcing chunks", problem, hint: "use the same release of Accrue everywhere")
    }
}

/// The answer to a producer's push.
public struct Acknowledgement: Codable, Hashable, Sendable {
    public var chunk: ContentHash
    public var position: Int
    /// The chunk was already in the log; this is its position there.
    public var duplicate: Bool
    public init(chunk: ContentHash, position: Int, duplicate: Bool) {
        self.chunk = chunk
        self.position = position
        self.duplicate = duplicate
    }
}

/// One chunk that a joining worker holds.
public struct InventoryItem: Codable, Hashable, Sendable {
    public var incarnation: String
    public var chunk: LogEntry.Chunk
    public init(incarnation: String, chunk: LogEntry.Chunk) {
        self.incarnation = incarnation
        self.chunk = chunk
    }
}

/// What becomes of an inventory item.
public enum InventoryVerdict: String, Codable, Sendable {
    /// The log knows it and still needs it; the worker is a location now.
    case located
    /// It was never announced; it is in the log now.
    case appended
    /// Not needed for learning, but not to be deleted (set aside).
    case keep
    /// Absorbed, or its pipeline is gone: the worker may delete it.
    case drop
}

/// The answer to a push of several chunks.
public struct Acknowledgements: Codable, Equatable, Sendable {
    /// Of one chunk: what a push of it alone would be answered or refused with.
    public struct Result: Codable, Equatable, Sendable {
        public var chunk: ContentHash?
        public var position: Int?
        public var duplicate: Bool?
        public var error: AccrueError?

        public init(_ result: Swift.Result<Acknowledgement, AccrueError>) {
            switch result {
            case .success(let acknowledgement): (chunk, position, duplicate) = (acknowledgement.chunk, acknowledgement.position, acknowledgement.duplicate)
            case .failure(var error):
                // So that what is wrong with all chunks of a push fits one header.
                error.problem = String(error.problem.prefix(Self.textMax))
                error.hint = String(error.hint.prefix(Self.textMax))
                self.error = error
            }
        }
        private static let textMax = 1_000

        /// - Throws: the error with which the chunk is refused; `corrupt` when there is neither that nor an acknowledgement.
        public func get() throws(AccrueError) -> Acknowledgement {
            guard error == nil, let chunk, let position, let duplicate else {
                throw error ?? AccrueError(.corrupt, while: "reading the answer to a push", "a result is neither an acknowledgement nor an error")
            }
            return Acknowledgement(chunk: chunk, position: position, duplicate: duplicate)
        }
    }
    /// One a chunk, in order.
    public var results: [Result]
    public init(_ results: [Swift.Result<Acknowledgement, AccrueError>]) { self.results = results.map { Result($0) } }
}

/// A producer's push, or a worker's `replicate` of one. A chunk that does not fit a frame comes in pieces, each with the same key, `totalBytes` and `hash`.
public struct Push: Codable, Equatable, Sendable {
    /// One of several chunks in one push.
    public struct Part: Codable, Equatable, Sendable {
        /// Of its safetensors.
        public var bytes: Int
        public var key: String?
        public init(bytes: Int, key: String? = nil) {
            self.bytes = bytes
            self.key = key
        }
    }

    public var pipeline: String
    /// Of a `replicate`: the pipeline's, as the sender knows it; a producer does not say it.
    public var incarnation: String?
    public var key: String?
    /// Where this piece starts in the chunk's bytes; nil: the chunk is whole.
    public var offset: Int?
    public var totalBytes: Int?
    /// SHA-256 of the chunk's safetensors bytes; required with pieces.
    public var hash: ContentHash?
    /// Several chunks, whose bytes are the payload one after the other; nil: one, the payload.
    public var chunks: [Part]?
    public init(pipeline: String, chunks: [Part]) {
        self.pipeline = pipeline
        self.chunks = chunks
    }
    public init(
        pipeline: String, incarnation: String? = nil, key: String? = nil, offset: Int? = nil, totalBytes: Int? = nil, hash: ContentHash? = nil
    ) {
        self.pipeline = pipeline
        self.incarnation = incarnation
        self.key = key
        self.offset = offset
        self.totalBytes = totalBytes
        self.hash = hash
    }
}

/// The answer to `replicate`: the chunk is on the disk of this worker too, and stays there for the time of an announcement, as long as the process lives.
public struct Replica: Codable, Hashable, Sendable {
    public var worker: String
    /// The nonce of the worker's process.
    public var boot: String
    public init(worker: String, boot: String) {
        self.worker = worker
        self.boot = boot
    }
}

/// A range of a chunk's bytes, asked of a worker that holds it.
public struct Fetch: Codable, Equatable, Sendable {
    public var incarnation: String
    public var identity: ContentHash
    public var offset: Int
    public var length: Int
    public init(incarnation: String, identity: ContentHash, offset: Int, length: Int) {
        self.incarnation = incarnation
        self.identity = identity
        self.offset = offset
        self.length = length
    }
}
