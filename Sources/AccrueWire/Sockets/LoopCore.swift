import AccrueCore
import CZeroMQ
import Dispatch
import Foundation
import Glibc
import Synchronization

/// What the loop's thread is told, in order.
enum LoopCommand: Sendable {
    case add(LoopSocket)
    case close(String)
    case send(String, Peer?, [Data])
    case timer(SocketLoop.TimerID, ms: Int, repeats: Bool, @Sendable () -> Void)
    case cancel(SocketLoop.TimerID)
    case stop(lingerMs: Int)
}

/// A socket on its way to the loop's thread.
struct LoopSocket: Sendable {
    let name: String
    let kind: Int32
    let raw: RawSocket
    let receive: SocketLoop.Receive
    let lost: (@Sendable (Peer) -> Void)?
    /// Checks who sends, and whether the sender's role allows the message; nil on plain sockets.
    let guarding: KeyRing?
}

/// What the loop's thread shares with all others: the queue of commands and the descriptor that wakes it.
final class LoopCore: @unchecked Sendable {
    // Safe to share: `context` is thread-safe by libzmq's promise, `wakeDescriptor` never changes, the rest is behind the mutex.
    struct Shared {
        var commands: [LoopCommand] = []
        var names: Set<String> = []
        var number: UInt64 = 0
        var ended = false
        /// The loop waits, and must be woken for what is new.
        var sleeps = false
    }

    let context: UnsafeMutableRawPointer
    let wakeDescriptor: Int32
    /// The loop's thread holds them only while it uses them, so that others can send without it.
    let sockets = Mutex(OpenSockets())
    private let shared = Mutex(Shared())
    private let end = DispatchSemaphore(value: 0)
    private let thread = Mutex<pthread_t?>(nil)

    init() throws(AccrueError) {
        guard let context = zmq_ctx_new() else { throw RawSocket.error("starting libzmq") }
        let descriptor = eventfd(0, Int32(EFD_NONBLOCK | EFD_CLOEXEC))
        guard descriptor >= 0 else {
            zmq_ctx_term(context)
            throw AccrueError(.unavailable, while: "starting the socket thread", "no event descriptor (error \(errno))", hint: "raise the limit of open files")
        }
        self.context = context
        wakeDescriptor = descriptor
    }

    deinit { Glibc.close(wakeDescriptor) }

    func enqueue(_ command: LoopCommand) {
        let (dead, sleeps) = shared.withLock { shared in
            if !shared.ended { shared.commands.append(command) }
            defer { shared.sleeps = false }
            return (shared.ended, shared.sleeps)
        }
        if dead {
            if case .add(let socket) = command { socket.raw.close() }
            return
        }
        if sleeps { wake() }
    }

    /// Sends on this thread when the sockets are free and nothing waits to be sent before, else on the loop's.
    func send(_ frames: [Data], on name: String, to peer: Peer?) {
        let sent = sockets.withLockIfAvailable { sockets -> (isDone: Bool, isUnread: Bool) in
            guard shared.withLock({ $0.commands.isEmpty }) else { return (false, false) }
            return sockets.sendNow(frames, on: name, to: peer)
        }
        guard let sent, sent.isDone else { return enqueue(.send(name, peer, frames)) }
        if sent.isUnread, shared.withLock({ shared in
            defer { shared.sleeps = false }
            return shared.sleeps
        }) { wake() }
    }

    /// - Returns: false when there are commands to do first.
    func goToSleep() -> Bool {
        shared.withLock { shared in
            shared.sleeps = shared.commands.isEmpty
            return shared.sleeps
        }
    }

    func wakeUp() { shared.withLock { $0.sleeps = false } }

    private func wake() {
        var one: UInt64 = 1
        _ = write(wakeDescriptor, &one, 8)
    }

    func takeCommands() -> [LoopCommand] {
        shared.withLock { shared in
            defer { shared.commands.removeAll(keepingCapacity: true) }
            return shared.commands
        }
    }

    func clearWake() {
        var count: UInt64 = 0
        _ = read(wakeDescriptor, &count, 8)
    }

    func nextNumber() -> UInt64 { shared.withLock { $0.number += 1; return $0.number } }

    func claim(_ name: String) throws(AccrueError) {
        let problem = shared.withLock { shared -> String? in
            if shared.ended { return "the socket thread has stopped" }
            return shared.names.insert(name).inserted ? nil : "there already is a socket of this name"
        }
        if let problem { throw AccrueError(.conflict, while: "opening socket '\(name)'", problem) }
    }

    func release(_ name: String) { shared.withLock { _ = $0.names.remove(name) } }

    func require(_ name: String) throws(AccrueError) {
        guard shared.withLock({ !$0.ended && $0.names.contains(name) }) else {
            throw AccrueError(.notFound, while: "sending on socket '\(name)'", "there is no open socket of this name")
        }
    }

    func began() { thread.withLock { $0 = pthread_self() } }

    /// The loop's thread says that it is done; sockets that were on their way are closed by it.
    func ended() -> [LoopCommand] {
        let rest = shared.withLock { shared in
            shared.ended = true
            defer { shared.commands = [] }
            return shared.commands
        }
        return rest
    }

    func signalEnd() { end.signal() }

    func waitUntilEnded() {
        let isLoop = thread.withLock { $0.map { pthread_equal($0, pthread_self()) != 0 } ?? false }
        if isLoop { return }
        end.wait()
        // Others may wait too.
        end.signal()
    }
}
