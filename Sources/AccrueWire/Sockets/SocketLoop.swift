public import AccrueCore
import CZeroMQ
public import Foundation
import Glibc
import Synchronization

/// All sockets of a process, and the one thread that waits for them.
///
/// Sockets are bound or connected by name. Messages are sent from any thread, on that thread when nothing is in the way: no other thread need wake up
/// for it. They arrive in the socket's `receive` closure, on the loop's thread, which must return at once (hand the message on; never compute, wait or
/// touch a disk there). What does not decode is refused and never reaches the closure. A message that cannot leave now waits in a bounded outbox of its
/// peer.
public final class SocketLoop: Sendable {
    public typealias Receive = @Sendable (Incoming) -> Intake

    /// What a socket carries; high-water marks count messages, so bulk with its large messages gets low ones.
    public enum Traffic: Sendable {
        case control, bulk
        var highWaterMark: Int { self == .control ? 10_000 : 64 }
    }

    /// Names a timer, to stop it.
    public struct TimerID: Hashable, Sendable { let number: UInt64 }

    let core: LoopCore
    private let identity: KeyPair?
    private let keys: KeyRing?

    /// - Parameters:
    ///   - identity: who this process is to sockets that ask for a key.
    ///   - keys: who is let in where this process asks for a key, and what they may do there; may change at any time.
    /// - Throws: `unavailable` when the system gives no context, event descriptor or thread.
    public init(as identity: KeyPair? = nil, admitting keys: KeyRing? = nil) throws(AccrueError) {
        core = try LoopCore()
        self.identity = identity
        self.keys = keys
        let core = core
        // Before any other socket: without a doorkeeper libzmq lets every key in.
        if let keys { core.enqueue(.add(try Self.door(core, keys))) }
        // Writing to a connection that the peer has closed must be an error, not the end of the process.
        signal(SIGPIPE, SIG_IGN)
        let thread = Thread { LoopThread(core).run() }
        thread.name = "sockets"
        thread.start()
    }

    deinit { core.enqueue(.stop(lingerMs: 0)) }

    private static func door(_ core: LoopCore, _ keys: KeyRing) throws(AccrueError) -> LoopSocket {
        let raw = try RawSocket(core.context, kind: ZMQ_REP, highWaterMark: Traffic.control.highWaterMark)
        do throws(AccrueError) { _ = try raw.bind(Doorkeeper.endpoint) } catch {
            raw.close()
            throw error
        }
        return LoopSocket(name: Doorkeeper.endpoint, kind: ZMQ_REP, raw: raw, receive: { _ in .taken }, lost: nil, guarding: keys)
    }

    /// Binds a ROUTER socket.
    /// - Parameters:
    ///   - security: with CURVE only messages arrive that are allowed to their sender's key; others are refused as `unauthorised`.
    ///   - lost: called with a peer that stayed unreachable while messages waited for it; they are gone.
    /// - Returns: the endpoint with wildcards (`tcp://127.0.0.1:*`) resolved and, with CURVE, the key that who connects must know.
    /// - Throws: `invalidInput` for a malformed endpoint, `unavailable` when it is taken, `conflict` when the name is in use.
    @discardableResult
    public func bind(
        _ name: String, at endpoint: String, traffic: Traffic = .control, security: SocketSecurity = .plain,
        lost: (@Sendable (Peer) -> Void)? = nil, receive: @escaping Receive
    ) throws(AccrueError) -> String {
        try open(name, ZMQ_ROUTER, traffic, security, lost, receive) { raw throws(AccrueError) in try raw.bind(endpoint) }
    }

    /// Binds a PUB socket; `publish` sends on it. With CURVE only holders of authorised keys can subscribe.
    @discardableResult
    public func bindPublisher(_ name: String, at endpoint: String, security: SocketSecurity = .plain) throws(AccrueError) -> String {
        try open(name, ZMQ_PUB, .control, security, nil, { _ in .taken }) { raw throws(AccrueError) in try raw.bind(endpoint) }
    }

    /// Connects a DEALER socket to one peer. libzmq connects again by itself, after a jittered wait of at most two seconds.
    /// - Parameters:
    ///   - endpoint: with the key of who listens there, if it asks for keys (`KeyedEndpoint`).
    ///   - routingID: how the peer names this end, also after a reconnection; 1 to 255 bytes, not beginning with 0; nil: a random one.
    /// - Throws: `unauthorised` when the endpoint asks for a key and this process has none.
    public func connect(
        _ name: String, to endpoint: String, traffic: Traffic = .control, routingID: Data? = nil, receive: @escaping Receive
    ) throws(AccrueError) {
        let endpoint = try KeyedEndpoint(parsing: endpoint)
        let routingID = routingID ?? Data("c-\(UUID().uuidString)".utf8)
        let security = try SocketSecurity.toward(endpoint, as: identity)
        _ = try open(name, ZMQ_DEALER, traffic, security, nil, receive) { raw throws(AccrueError) in
            raw.set(ZMQ_ROUTING_ID, bytes: routingID)
            try raw.connect(endpoint.address)
            return endpoint.address
        }
    }

    /// Connects a SUB socket; an empty topic means all.
    public func subscribe(_ name: String, to endpoint: String, topics: [String] = [""], receive: @escaping Receive) throws(AccrueError) {
        let endpoint = try KeyedEndpoint(parsing: endpoint)
        let security = try SocketSecurity.toward(endpoint, as: identity)
        _ = try open(name, ZMQ_SUB, .control, security, nil, receive) { raw throws(AccrueError) in
            for topic in topics { raw.set(ZMQ_SUBSCRIBE, text: topic) }
            try raw.connect(endpoint.address)
            return endpoint.address
        }
    }

    /// Sends a message; `peer` on ROUTER sockets, nil on DEALER sockets. Returns at once; delivery is not promised. Of one thread's messages to a
    /// peer none overtakes another.
    /// - Throws: `limitExceeded` when the message is too large, `notFound` when there is no such socket.
    public func send(_ message: Message, on socket: String, to peer: Peer? = nil) throws(AccrueError) {
        try core.require(socket)
        core.send(try message.frames(), on: socket, to: peer)
    }

    /// Publishes a message under a topic.
    public func publish(_ message: Message, topic: String, on socket: String) throws(AccrueError) {
        try core.require(socket)
        core.send([Data(topic.utf8)] + (try message.frames()), on: socket, to: nil)
    }

    /// Closes a socket; what waits on it is dropped.
    public func close(_ name: String) { core.enqueue(.close(name)) }

    /// Calls `action` on the loop's thread after `ms` milliseconds, and again every `ms` if `repeats`.
    @discardableResult
    public func timer(ms: Int, repeats: Bool = false, _ action: @escaping @Sendable () -> Void) -> TimerID {
        let id = TimerID(number: core.nextNumber())
        core.enqueue(.timer(id, ms: max(1, ms), repeats: repeats, action))
        return id
    }

    public func cancel(_ timer: TimerID) { core.enqueue(.cancel(timer)) }

    /// Closes all sockets and ends the thread; returns when it has ended (at once when called on it).
    /// - Parameter lingerMs: how long libzmq may go on sending what it was given before, such as last acknowledgements.
    public func stop(lingerMs: Int = 0) {
        core.enqueue(.stop(lingerMs: lingerMs))
        core.waitUntilEnded()
    }

    private func open(
        _ name: String, _ kind: Int32, _ traffic: Traffic, _ security: SocketSecurity, _ lost: (@Sendable (Peer) -> Void)?,
        _ receive: @escaping Receive, _ attach: (RawSocket) throws(AccrueError) -> String
    ) throws(AccrueError) -> String {
        var guarding: KeyRing?
        var serverKey: PublicKey?
        if case .curveServer(let pair) = security {
            guard let keys else { throw AccrueError(.unavailable, while: "opening socket '\(name)'", "nobody says which keys are let in there", hint: "this is a defect; please report it") }
            guarding = keys
            serverKey = pair.publicKey
        }
        try core.claim(name)
        do throws(AccrueError) {
            let raw = try RawSocket(core.context, kind: kind, highWaterMark: traffic.highWaterMark)
            do throws(AccrueError) {
                try security.apply(to: raw)
                let endpoint = try attach(raw)
                core.enqueue(.add(LoopSocket(name: name, kind: kind, raw: raw, receive: receive, lost: lost, guarding: guarding)))
                return KeyedEndpoint(endpoint, serverKey: serverKey).description
            } catch {
                raw.close()
                throw error
            }
        } catch {
            core.release(name)
            throw error
        }
    }
}
