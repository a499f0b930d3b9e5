public import AccrueCore

/// The answer to `keys`: who may connect to the sockets of the cluster. Public halves only.
public struct KeyListing: Codable, Equatable, Sendable {
    public var keys: [AuthorisedKey]
    /// What heartbeat replies carry.
    public var hash: ContentHash
    public init(keys: [AuthorisedKey]) {
        self.keys = keys
        hash = AuthorisedKey.hash(of: keys)
    }
}
