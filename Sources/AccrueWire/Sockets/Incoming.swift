public import Foundation

/// Who is at the other end of a ROUTER socket: the routing identity of its DEALER.
public struct Peer: Hashable, Sendable, CustomStringConvertible {
    public let bytes: Data
    public init(_ bytes: Data) { self.bytes = bytes }
    public var description: String { bytes.map { String($0, radix: 16) }.joined() }
}

/// A message that arrived.
public struct Incoming: Sendable {
    /// The name under which the socket was bound or connected.
    public var socket: String
    /// On ROUTER sockets: who sent it, and where the answer goes.
    public var peer: Peer?
    /// On subscribing sockets.
    public var topic: String?
    /// On sockets with CURVE: the sender's key, which is authorised and whose role allows the message. Nil elsewhere.
    public var key: PublicKey?
    public var message: Message
    public init(socket: String, peer: Peer? = nil, topic: String? = nil, key: PublicKey? = nil, message: Message) {
        self.socket = socket
        self.peer = peer
        self.topic = topic
        self.key = key
        self.message = message
    }
}

/// What a receiver says to a message that it was given.
public enum Intake: Sendable {
    case taken
    /// No room now: the sender is refused with `unavailable` and told when to try again.
    case busy
}
