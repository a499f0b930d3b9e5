public import AccrueCore
import Foundation
import Synchronization

/// A public key that a cluster lets in, and what its holder may do.
public struct AuthorisedKey: Codable, Hashable, Sendable {
    public var name: String
    public var role: KeyRole
    public var publicKey: PublicKey
    public init(name: String, role: KeyRole, publicKey: PublicKey) {
        self.name = name
        self.role = role
        self.publicKey = publicKey
    }

    /// Changes with the set of keys, not with their order.
    public static func hash(of keys: [AuthorisedKey]) -> ContentHash {
        let lines = keys.map { "\($0.role.rawValue) \($0.name) \($0.publicKey)\n" }.sorted()
        return ContentHash(of: Data(lines.joined().utf8))
    }
}

/// The keys that sockets let in, as they are now: looked at with every connection and every message.
public final class KeyRing: Sendable {
    private struct Shared {
        var keys: [PublicKey: AuthorisedKey] = [:]
        var hash = AuthorisedKey.hash(of: [])
    }
    private let shared = Mutex(Shared())

    public init(_ keys: [AuthorisedKey] = []) { replace(keys) }

    public func replace(_ keys: [AuthorisedKey]) {
        let new = Shared(keys: Dictionary(keys.map { ($0.publicKey, $0) }) { first, _ in first }, hash: AuthorisedKey.hash(of: keys))
        shared.withLock { $0 = new }
    }

    public subscript(key: PublicKey) -> AuthorisedKey? { shared.withLock { $0.keys[key] } }

    public var hash: ContentHash { shared.withLock { $0.hash } }

    /// - Throws: `unauthorised` when the key is not on the ring.
    func holder(of key: PublicKey?) throws(AccrueError) -> AuthorisedKey {
        guard let key, let holder = self[key] else {
            throw AccrueError(
                .unauthorised, while: "checking a key", "the key is not authorised here, or was revoked", hint: "ask an administrator for a key made with 'accrue keys add'")
        }
        return holder
    }
}

extension AuthorisedKey {
    /// - Throws: `unauthorised` when the role does not allow the request.
    func check(_ message: Message) throws(AccrueError) {
        guard !role.allows(message) else { return }
        let who = message.known == .hello ? " as \(message.header["role"]?.string ?? "nobody")" : ""
        throw AccrueError(
            .unauthorised, while: "checking a key", "key '\(name)' has the role \(role.rawValue), which does not allow '\(message.verb)'\(who)",
            hint: "use a key of another role; ops/PROTOCOL.md, section 11, lists what each may do")
    }
}
