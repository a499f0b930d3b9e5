public import AccrueCore
import CZeroMQ
import Foundation

/// Finds out why nobody answers over TCP. Who is not let in is not told so; but a connection that is made and then never greets says it.
public struct HandshakeProbe: Sendable {
    /// Longer than a handshake may take.
    private static let patienceMs = 2_500

    private let endpoint: KeyedEndpoint
    private let identity: KeyPair?

    /// - Throws: `invalidInput` for a malformed endpoint.
    public init(_ endpoint: String, as identity: KeyPair?) throws(AccrueError) {
        self.endpoint = try KeyedEndpoint(parsing: endpoint)
        self.identity = identity
    }

    /// Tries for a moment to connect; does nothing for endpoints other than TCP.
    /// - Throws: `unauthorised` when somebody listens there and the greeting fails.
    public func check(while operation: String) async throws(AccrueError) {
        guard endpoint.address.hasPrefix("tcp://") else { return }
        let isTurnedAway = await withCheckedContinuation { continuation in
            let thread = Thread { continuation.resume(returning: (try? greetingFails()) ?? false) }
            thread.name = "probe"
            thread.start()
        }
        guard isTurnedAway else { return }
        if identity == nil {
            throw AccrueError(
                .unauthorised, while: operation, "somebody listens there, but does not talk to who has no key",
                hint: "give a key file with --key-file or ACCRUE_KEY; an administrator makes it with 'accrue keys add'")
        }
        throw AccrueError(
            .unauthorised, while: operation, "somebody listens there, but does not accept the key (or is hung)",
            hint: "the key may have been revoked, or be for another daemon; 'accrue keys list' there says which are accepted")
    }

    private func greetingFails() throws(AccrueError) -> Bool {
        guard let context = zmq_ctx_new() else { throw RawSocket.error("starting libzmq") }
        defer { zmq_ctx_term(context) }
        let socket = try RawSocket(context, kind: ZMQ_DEALER, highWaterMark: 1)
        defer { socket.close() }
        try SocketSecurity.toward(endpoint, as: identity).apply(to: socket)
        let events = try RawSocket(context, kind: ZMQ_PAIR, highWaterMark: 100)
        defer { events.close() }
        let failures = ZMQ_EVENT_DISCONNECTED | ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL | ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL | ZMQ_EVENT_HANDSHAKE_FAILED_AUTH
        let wanted = ZMQ_EVENT_CONNECTED | ZMQ_EVENT_CONNECT_RETRIED | ZMQ_EVENT_HANDSHAKE_SUCCEEDED | failures
        guard zmq_socket_monitor(socket.handle, "inproc://probe", wanted) == 0 else { throw RawSocket.error("watching a connection") }
        try events.connect("inproc://probe")
        try socket.connect(endpoint.address)
        // Silence is the answer to a wrong key; whoever has none is hung up on, and if not, the other side is merely hung.
        var fails = false
        let end = MonotonicTime.now().adding(ms: Self.patienceMs)
        while true {
            let left = end.ms(since: .now())
            var item = zmq_pollitem_t(socket: events.handle, fd: 0, events: Int16(ZMQ_POLLIN), revents: 0)
            guard left > 0, zmq_poll(&item, 1, left) > 0, let event = events.receive(framesMax: 2)?.frames.first, event.count >= 2 else { return fails }
            // A number of 16 bits in the machine's order, and a value behind it.
            let number = event.withUnsafeBytes { Int32($0.loadUnaligned(as: UInt16.self)) }
            if number == ZMQ_EVENT_HANDSHAKE_SUCCEEDED { return false }
            // Nobody there; or somebody was, and now it is tried again.
            if number == ZMQ_EVENT_CONNECT_RETRIED { return fails }
            if identity != nil || number & failures != 0 { fails = true }
        }
    }
}
