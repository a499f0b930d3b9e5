public import AccrueCore
import Foundation

/// What the holder of a key has: its own pair, and the public key of the cluster that knows it. One small file, as `accrue keys add` makes it.
public struct ClientKey: Equatable, Sendable {
    public var name: String
    public var role: KeyRole
    /// The public key of the coordinator's sockets.
    public var serverKey: PublicKey
    public var pair: KeyPair

    public init(name: String, role: KeyRole, serverKey: PublicKey, pair: KeyPair) {
        self.name = name
        self.role = role
        self.serverKey = serverKey
        self.pair = pair
    }

    private struct File: Codable {
        var name: String
        var role: KeyRole
        var serverKey: PublicKey
        var publicKey: String
        var secretKey: String
    }

    /// - Throws: `notFound`, `unauthorised` when others could have read it, `corrupt` when it is not a key file.
    public init(file path: String) throws(AccrueError) {
        let operation = "reading key file \(path)"
        let bytes = try SecretFile.read(path, while: operation)
        guard let file: File = try? JSONValue(parsing: bytes).decode(while: operation) else {
            throw AccrueError(.corrupt, while: operation, "it is not a key file", hint: "an administrator makes one with 'accrue keys add'")
        }
        self.init(
            name: file.name, role: file.role, serverKey: file.serverKey, pair: try KeyPair(publicKey: file.publicKey, secretKey: file.secretKey, while: operation))
    }

    /// - Throws: `conflict` when there is a file of this name and `replacing` is false; `unavailable` when it cannot be written.
    public func write(to path: String, replacing: Bool = false) throws(AccrueError) {
        let file = File(name: name, role: role, serverKey: serverKey, publicKey: pair.publicKey.text, secretKey: pair.secretKey)
        let bytes = Data((try JSONValue(encoding: file).canonical + "\n").utf8)
        try SecretFile.write(bytes, to: path, replacing: replacing, while: "writing key file \(path)")
    }

    public var authorised: AuthorisedKey { AuthorisedKey(name: name, role: role, publicKey: pair.publicKey) }

    /// The endpoint to connect to: over TCP the cluster must prove that it is the one that this key is for.
    public func endpoint(_ text: String) throws(AccrueError) -> String {
        var endpoint = try KeyedEndpoint(parsing: text)
        if text.hasPrefix("tcp://"), endpoint.serverKey == nil { endpoint.serverKey = serverKey }
        return endpoint.description
    }
}
