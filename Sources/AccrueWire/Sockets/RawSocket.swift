import AccrueCore
import CZeroMQ
import Foundation
import Glibc

/// One libzmq socket: options, frames in, frames out. Used by one thread at a time; made on any thread and then handed to the loop's.
struct RawSocket: @unchecked Sendable {
    enum Sent { case sent, full, unreachable, failed }

    let handle: UnsafeMutableRawPointer

    /// - Throws: `unavailable` when libzmq has no socket left.
    init(_ context: UnsafeMutableRawPointer, kind: Int32, highWaterMark: Int) throws(AccrueError) {
        guard let handle = zmq_socket(context, kind) else { throw Self.error("making a socket") }
        self.handle = handle
        set(ZMQ_LINGER, 0)
        set(ZMQ_SNDHWM, Int32(highWaterMark))
        set(ZMQ_RCVHWM, Int32(highWaterMark))
        set(ZMQ_RECONNECT_IVL, 100)
        set(ZMQ_RECONNECT_IVL_MAX, 1_000)
        set(ZMQ_HANDSHAKE_IVL, 10_000)
        var largest = Int64(Limits.frameBytesMax)
        zmq_setsockopt(handle, ZMQ_MAXMSGSIZE, &largest, MemoryLayout<Int64>.size)
        if kind == ZMQ_ROUTER {
            set(ZMQ_ROUTER_MANDATORY, 1)
            // A peer that reconnects before its old connection is seen to be gone takes its identity over.
            set(ZMQ_ROUTER_HANDOVER, 1)
        }
        if kind == ZMQ_ROUTER || kind == ZMQ_DEALER {
            // TCP notices a vanished host only after minutes.
            set(ZMQ_HEARTBEAT_IVL, 2_000)
            set(ZMQ_HEARTBEAT_TIMEOUT, 6_000)
        }
    }

    func set(_ option: Int32, _ value: Int32) {
        var value = value
        zmq_setsockopt(handle, option, &value, MemoryLayout<Int32>.size)
    }

    @discardableResult
    func set(_ option: Int32, bytes: Data) -> Bool {
        bytes.withUnsafeBytes { zmq_setsockopt(handle, option, $0.baseAddress, $0.count) } == 0
    }

    @discardableResult
    func set(_ option: Int32, text: String) -> Bool { zmq_setsockopt(handle, option, text, text.utf8.count) == 0 }

    /// - Returns: the endpoint with wildcards resolved.
    /// - Throws: `invalidInput` for a malformed endpoint, `unavailable` when it cannot be bound.
    func bind(_ endpoint: String) throws(AccrueError) -> String {
        try Self.check(endpoint)
        guard zmq_bind(handle, endpoint) == 0 else { throw Self.error("binding \(endpoint)") }
        var text = [CChar](repeating: 0, count: 512)
        var count = text.count
        guard zmq_getsockopt(handle, ZMQ_LAST_ENDPOINT, &text, &count) == 0 else { return endpoint }
        return String(decoding: text.prefix(max(0, count - 1)).map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    func connect(_ endpoint: String) throws(AccrueError) {
        try Self.check(endpoint)
        guard zmq_connect(handle, endpoint) == 0 else { throw Self.error("connecting to \(endpoint)") }
    }

    func close() { zmq_close(handle) }

    /// Becomes readable when something may have changed. After any use of the socket `hasUnread` says whether something did, for it need not become so again.
    var descriptor: Int32 { option(ZMQ_FD) ?? -1 }

    /// Whether a message waits.
    var hasUnread: Bool { (option(ZMQ_EVENTS) ?? 0) & ZMQ_POLLIN != 0 }

    private func option(_ option: Int32) -> Int32? {
        var value: Int32 = 0
        var count = MemoryLayout<Int32>.size
        return zmq_getsockopt(handle, option, &value, &count) == 0 ? value : nil
    }

    /// Sends all frames or none, without waiting.
    func send(_ frames: [Data]) -> Sent {
        for (index, frame) in frames.enumerated() {
            let flags = ZMQ_DONTWAIT | (index + 1 < frames.count ? ZMQ_SNDMORE : 0)
            var status: Int32
            repeat {
                status = frame.withUnsafeBytes { zmq_send(handle, $0.baseAddress, $0.count, flags) }
            } while status < 0 && zmq_errno() == EINTR
            if status < 0 {
                // Only the first frame can be refused for want of room: libzmq takes a multipart message whole.
                guard index == 0 else { return .failed }
                switch zmq_errno() {
                case EAGAIN: return .full
                case EHOSTUNREACH: return .unreachable
                default: return .failed
                }
            }
        }
        return .sent
    }

    /// A message as libzmq gives it.
    struct Received {
        var frames: [Data] = []
        /// Frames beyond those asked for; they are dropped.
        var excess = 0
        /// Whom the doorkeeper let in, on sockets with CURVE.
        var user: PublicKey?
    }

    /// The next message, nil when none waits.
    func receive(framesMax: Int, withUser: Bool = false) -> Received? {
        var received = Received()
        var message = zmq_msg_t()
        while true {
            zmq_msg_init(&message)
            defer { zmq_msg_close(&message) }
            guard zmq_msg_recv(&message, handle, ZMQ_DONTWAIT) >= 0 else {
                if zmq_errno() == EINTR { continue }
                return nil
            }
            // Asked before the bytes are taken: a message whose bytes are kept elsewhere says nothing any more.
            let isLast = zmq_msg_more(&message) == 0
            if withUser, isLast { received.user = zmq_msg_gets(&message, "User-Id").flatMap { PublicKey(String(cString: $0)) } }
            if received.frames.count < framesMax {
                received.frames.append(Self.content(of: &message))
            } else {
                received.excess += 1
            }
            if isLast { return received }
        }
    }

    /// Copying as many bytes takes longer than keeping libzmq's.
    private static let keptBytesMin = 64 << 10

    /// The bytes of a message; those of a large one stay where libzmq put them, and the message is empty then.
    private static func content(of message: inout zmq_msg_t) -> Data {
        let count = zmq_msg_size(&message)
        guard count >= keptBytesMin else { return zmq_msg_data(&message).map { Data(bytes: $0, count: count) } ?? Data() }
        let kept = KeptMessage()
        zmq_msg_move(&kept.message, &message)
        guard let bytes = zmq_msg_data(&kept.message) else { return Data() }
        return Data(bytesNoCopy: bytes, count: count, deallocator: .custom { _, _ in withExtendedLifetime(kept) {} })
    }

    private static func check(_ endpoint: String) throws(AccrueError) {
        if endpoint.hasPrefix("ipc://"), endpoint.utf8.count - 6 > 107 {
            throw AccrueError(
                .invalidInput, while: "opening \(endpoint)", "the socket's path has \(endpoint.utf8.count - 6) bytes; the system allows 107",
                hint: "choose a home with a shorter path")
        }
    }

    static func error(_ operation: String) -> AccrueError {
        let number = zmq_errno()
        let reason = zmq_strerror(number).map { String(cString: $0) } ?? "error \(number)"
        let malformed = number == EINVAL || number == EPROTONOSUPPORT || number == ENODEV
        return AccrueError(
            malformed ? .invalidInput : .unavailable, while: operation, reason,
            hint: malformed ? "endpoints look like ipc:///path or tcp://host:port" : "check that no other process uses the endpoint and that its directory exists")
    }
}

/// A message of libzmq that lives as long as somebody reads its bytes.
private final class KeptMessage: @unchecked Sendable {
    // Safe to share: changed only by who makes it, before anybody else has it.
    var message = zmq_msg_t()
    init() { zmq_msg_init(&message) }
    deinit { zmq_msg_close(&message) }
}
