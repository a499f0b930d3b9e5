public import AccrueCore
import CZeroMQ
public import Foundation
import Glibc
import Synchronization

/// The one thread that owns all sockets of a process.
///
/// Sockets are bound or connected by name; messages are sent from any thread and arrive in the socket's `receive` closure, on the loop's thread,
/// which must return at once (hand the message on; never compute, wait or touch a disk there). What does not decode is refused and never reaches
/// the closure. A message that cannot leave now waits in a bounded outbox of its peer.
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

    /// - Throws: `unavailable` when the system gives no context, event descriptor or thread.
    public init() throws(AccrueError) {
        core = try LoopCore()
        let core = core
        // Writing to a connection that the peer has closed must be an error, not the end of the process.
        signal(SIGPIPE, SIG_IGN)
        let thread = Thread { LoopThread(core).run() }
        thread.name = "sockets"
        thread.start()
    }

    deinit { core.enqueue(.stop(lingerMs: 0)) }

    /// Binds a ROUTER socket.
    /// - Parameters:
    ///   - lost: called with a peer that stayed unreachable while messages waited for it; they are gone.
    /// - Returns: the endpoint with wildcards (`tcp://127.0.0.1:*`) resolved.
    /// - Throws: `invalidInput` for a malformed endpoint, `unavailable` when it is taken, `conflict` when the name is in use.
    @discardableResult
    public func bind(
        _ name: String, at endpoint: String, traffic: Traffic = .control, security: SocketSecurity = .plain,
        lost: (@Sendable (Peer) -> Void)? = nil, receive: @escaping Receive
    ) throws(AccrueError) -> String {
        try open(name, ZMQ_ROUTER, traffic, security, lost, receive) { raw throws(AccrueError) in try raw.bind(endpoint) }
    }

    /// Binds a PUB socket; `publish` sends on it.
    @discardableResult
    public func bindPublisher(_ name: String, at endpoint: String, security: SocketSecurity = .plain) throws(AccrueError) -> String {
        try open(name, ZMQ_PUB, .control, security, nil, { _ in .taken }) { raw throws(AccrueError) in try raw.bind(endpoint) }
    }

    /// Connects a DEALER socket to one peer. libzmq connects again by itself, after a jittered wait of at most two seconds.
    /// - Parameter identity: how the peer names this end, also after a reconnection; 1 to 255 bytes, not beginning with 0; nil: a random one.
    public func connect(
        _ name: String, to endpoint: String, traffic: Traffic = .control, identity: Data? = nil, security: SocketSecurity = .plain,
        receive: @escaping Receive
    ) throws(AccrueError) {
        let identity = identity ?? Data("c-\(UUID().uuidString)".utf8)
        _ = try open(name, ZMQ_DEALER, traffic, security, nil, receive) { raw throws(AccrueError) in
            raw.set(ZMQ_ROUTING_ID, bytes: identity)
            try raw.connect(endpoint)
            return endpoint
        }
    }

    /// Connects a SUB socket; an empty topic means all.
    public func subscribe(
        _ name: String, to endpoint: String, topics: [String] = [""], security: SocketSecurity = .plain, receive: @escaping Receive
    ) throws(AccrueError) {
        _ = try open(name, ZMQ_SUB, .control, security, nil, receive) { raw throws(AccrueError) in
            for topic in topics { raw.set(ZMQ_SUBSCRIBE, text: topic) }
            try raw.connect(endpoint)
            return endpoint
        }
    }

    /// Sends a message; `peer` on ROUTER sockets, nil on DEALER sockets. Returns at once; delivery is not promised.
    /// - Throws: `limitExceeded` when the message is too large, `notFound` when there is no such socket.
    public func send(_ message: Message, on socket: String, to peer: Peer? = nil) throws(AccrueError) {
        try core.require(socket)
        core.enqueue(.send(socket, peer, try message.frames()))
    }

    /// Publishes a message under a topic.
    public func publish(_ message: Message, topic: String, on socket: String) throws(AccrueError) {
        try core.require(socket)
        core.enqueue(.send(socket, nil, [Data(topic.utf8)] + (try message.frames())))
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
        try core.claim(name)
        do throws(AccrueError) {
            let raw = try RawSocket(core.context, kind: kind, highWaterMark: traffic.highWaterMark)
            do throws(AccrueError) {
                try security.apply(to: raw)
                let endpoint = try attach(raw)
                core.enqueue(.add(LoopSocket(name: name, kind: kind, raw: raw, receive: receive, lost: lost)))
                return endpoint
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
