public import AccrueCore

/// `query`: a question to a posterior; tensors travel as one safetensors payload (pieces of at most `Limits.frameBytesMax`, joined in order).
public struct QueryHeader: Codable, Equatable, Sendable {
    public var pipeline: String
    /// The method's verb: predict, evidence, describe, ….
    public var verb: String
    public var header: JSONValue
    /// A version number; nil: the newest.
    public var at: Int?
    /// Not from a version before this one; nil: from whichever is newest here.
    public var atLeast: Int?
    /// The seed of the answer's draws; nil: 0. The same seed and version give the same answer.
    public var seed: Int?
    public init(pipeline: String, verb: String, header: JSONValue = .object([:]), at: Int? = nil, atLeast: Int? = nil, seed: Int? = nil) {
        self.pipeline = pipeline
        self.verb = verb
        self.header = header
        self.at = at
        self.atLeast = atLeast
        self.seed = seed
    }
}

/// The answer to a query: what it rests on, the method's own header, and tensors in the payload.
public struct QueryReply: Codable, Equatable, Sendable {
    public var pipeline: String
    public var version: Int
    public var absorbedChunks: Int
    public var absorbedRows: Int
    public var header: JSONValue
    public init(pipeline: String, version: Int, absorbedChunks: Int, absorbedRows: Int, header: JSONValue) {
        self.pipeline = pipeline
        self.version = version
        self.absorbedChunks = absorbedChunks
        self.absorbedRows = absorbedRows
        self.header = header
    }
}
