public import AccrueCore
import CZeroMQ

/// A CURVE key pair. Its secret half is never part of a message, a report or an error.
public struct KeyPair: Equatable, Sendable, CustomStringConvertible {
    public let publicKey: PublicKey
    /// Z85.
    public let secretKey: String

    /// - Throws: `corrupt` when one of the two is not a key.
    public init(publicKey: String, secretKey: String, while operation: String) throws(AccrueError) {
        guard let key = PublicKey(publicKey), PublicKey.isKey(secretKey) else {
            throw AccrueError(.corrupt, while: operation, "a key there is not 40 characters of Z85", hint: "make the key anew with 'accrue keys'")
        }
        self.publicKey = key
        self.secretKey = secretKey
    }

    /// A new pair.
    /// - Throws: `unavailable` when this libzmq has no CURVE.
    public static func make() throws(AccrueError) -> KeyPair {
        var publicKey = [CChar](repeating: 0, count: 41), secretKey = publicKey
        guard zmq_curve_keypair(&publicKey, &secretKey) == 0 else {
            throw AccrueError(.unavailable, while: "making a key pair", "this libzmq has no CURVE", hint: "install a libzmq with CURVE; 'accrue doctor' looks at it")
        }
        func text(_ characters: [CChar]) -> String { String(decoding: characters.prefix(40).map { UInt8(bitPattern: $0) }, as: UTF8.self) }
        return try KeyPair(publicKey: text(publicKey), secretKey: text(secretKey), while: "making a key pair")
    }

    public var description: String { "key \(publicKey)" }
}
