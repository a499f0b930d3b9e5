public import AccrueCore

/// `pipeline.apply`: make a pipeline, or say again what it is.
public struct Apply: Codable, Equatable, Sendable {
    public var declaration: PipelineDeclaration
    public init(declaration: PipelineDeclaration) { self.declaration = declaration }
}

/// The answer to `pipeline.apply`.
public struct Applied: Codable, Equatable, Sendable {
    public var name: String
    public var incarnation: String
    public var version: Int
    /// Where the log has the change of an existing pipeline that was asked for.
    public var position: Int?
    public init(name: String, incarnation: String, version: Int, position: Int? = nil) {
        self.name = name
        self.incarnation = incarnation
        self.version = version
        self.position = position
    }
}

/// Names a pipeline: `pipeline.show`, `pipeline.delete`, `pipeline.resume`, `flush`.
public struct PipelineName: Codable, Equatable, Sendable {
    public var pipeline: String
    public init(pipeline: String) { self.pipeline = pipeline }
}

/// A pipeline as `pipelines`, `pipeline.list` and `pipeline.show` give it.
public struct PipelineRecord: Codable, Equatable, Sendable {
    public var declaration: PipelineDeclaration
    public var incarnation: String
    public var phases: MethodPhases
    public var status: PipelineStatus
    public init(declaration: PipelineDeclaration, incarnation: String, phases: MethodPhases, status: PipelineStatus) {
        self.declaration = declaration
        self.incarnation = incarnation
        self.phases = phases
        self.status = status
    }
}

/// The answer to `pipelines` and `pipeline.list`: by name.
public struct PipelineListing: Codable, Equatable, Sendable {
    public var pipelines: [PipelineRecord]
    /// What heartbeat replies carry: SHA-256 of the names and incarnations.
    public var hash: ContentHash
    public init(pipelines: [PipelineRecord], hash: ContentHash) {
        self.pipelines = pipelines
        self.hash = hash
    }
}

/// The answer to `flush`: the position of the cut, or nil when no chunk was open.
public struct Flushed: Codable, Equatable, Sendable {
    public var position: Int?
    public init(position: Int?) { self.position = position }
}

/// `posterior.show`: a version's record; the newest when `at` is nil.
public struct PosteriorQuery: Codable, Equatable, Sendable {
    public var pipeline: String
    public var at: Int?
    public init(pipeline: String, at: Int? = nil) {
        self.pipeline = pipeline
        self.at = at
    }
}

/// One version of a posterior, without its bytes (`blob.get` has them).
public struct PosteriorRecord: Codable, Equatable, Sendable {
    public var pipeline: String
    public var incarnation: String
    public var version: Int
    /// Name and size of the state.
    public var hash: ContentHash
    public var bytes: Int
    /// The last log position that it absorbs.
    public var through: Int
    public var absorbedChunks: Int
    public var absorbedRows: Int
    /// How the version before predicted this version's chunks.
    public var score: Score?
    /// `score` as named figures.
    public var figures: [String: Double]?
    /// Milliseconds since 1970, by the coordinator's clock.
    public var createdAtMs: Int
    /// Of the rows that it absorbed and is asked about.
    public var schema: Schema?
    public init(
        pipeline: String, incarnation: String, version: Int, hash: ContentHash, bytes: Int, through: Int, absorbedChunks: Int, absorbedRows: Int,
        score: Score? = nil, createdAtMs: Int, schema: Schema? = nil
    ) {
        self.pipeline = pipeline
        self.incarnation = incarnation
        self.version = version
        self.hash = hash
        self.bytes = bytes
        self.through = through
        self.absorbedChunks = absorbedChunks
        self.absorbedRows = absorbedRows
        self.score = score
        figures = score?.figures
        self.createdAtMs = createdAtMs
        self.schema = schema
    }
}

/// `posterior.list`: versions after a number (all when nil), at most `limit`.
public struct PosteriorsQuery: Codable, Equatable, Sendable {
    public var pipeline: String
    public var after: Int?
    public var limit: Int?
    public init(pipeline: String, after: Int? = nil, limit: Int? = nil) {
        self.pipeline = pipeline
        self.after = after
        self.limit = limit
    }
}

/// `posterior.import`: a network or posterior, put as a blob before, is a version from here on.
public struct PosteriorImport: Codable, Equatable, Sendable {
    public var pipeline: String
    /// SHA-256 of the safetensors bytes.
    public var hash: ContentHash
    /// The same file under another key is meant again.
    public var key: String?
    public init(pipeline: String, hash: ContentHash, key: String? = nil) {
        self.pipeline = pipeline
        self.hash = hash
        self.key = key
    }
}

/// The answer to `posterior.import`: where the log has it; `await` says which version it is.
public struct Imported: Codable, Equatable, Sendable {
    public var position: Int
    /// It was imported before; this is its position.
    public var duplicate: Bool
    public init(position: Int, duplicate: Bool) {
        self.position = position
        self.duplicate = duplicate
    }
}

/// The answer to `posterior.list`: oldest first, without `score` and `schema`; ask again with `after` = the last version while `more`.
public struct PosteriorListing: Codable, Equatable, Sendable {
    public var versions: [PosteriorRecord]
    public var more: Bool
    public init(versions: [PosteriorRecord], more: Bool = false) {
        self.versions = versions
        self.more = more
    }
}
