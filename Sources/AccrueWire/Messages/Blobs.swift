public import AccrueCore

/// `blob.put`: one piece of a state, delta, work, moments or import; the payload is one frame of at most `Limits.pieceBytesMax` bytes.
public struct BlobPut: Codable, Equatable, Sendable {
    public enum Kind: String, Codable, Sendable { case state, work, delta, moments, `import` }
    /// SHA-256 of the whole blob.
    public var hash: ContentHash
    public var kind: Kind
    public var offset: Int
    public var totalBytes: Int
    public init(hash: ContentHash, kind: Kind, offset: Int, totalBytes: Int) {
        self.hash = hash
        self.kind = kind
        self.offset = offset
        self.totalBytes = totalBytes
    }
}

/// The answer to a piece of an upload (`blob.put`, and every piece of a `push` but the one that completes it).
public struct PieceReply: Codable, Equatable, Sendable {
    /// The whole has arrived and its hash is right; no further piece is needed.
    public var complete: Bool
    /// Bytes of the whole that have arrived.
    public var received: Int
    public init(complete: Bool, received: Int) {
        self.complete = complete
        self.received = received
    }
}

/// `blob.get`: a range of a blob. The answer's payload is one frame.
public struct BlobGet: Codable, Equatable, Sendable {
    public var hash: ContentHash
    public var offset: Int
    public var length: Int
    public init(hash: ContentHash, offset: Int, length: Int) {
        self.hash = hash
        self.offset = offset
        self.length = length
    }
}

/// The header of an answer to `blob.get` and `fetch`.
public struct RangeReply: Codable, Equatable, Sendable {
    public var totalBytes: Int
    public init(totalBytes: Int) { self.totalBytes = totalBytes }
}
