import AccrueCore
import Foundation
import Glibc
import Synchronization

/// A child process whose standard input is one end of a pair that this process holds the other end of, as long as it lives: however this process
/// ends, the pair closes, and the child knows.
final class ChildProcess: Sendable {
    /// How a process ended.
    enum End: Equatable, Sendable, CustomStringConvertible {
        case code(Int32)
        case signal(Int32)

        var description: String {
            switch self {
            case .code(let code): "with code \(code)"
            case .signal(let number): "by signal \(number)"
            }
        }
    }

    let pid: pid_t
    private let held: Int32
    /// Whether its number may belong to another process by now.
    private let isGone = Mutex(false)

    /// Starts a program, with variables added to this process's environment.
    /// - Throws: `unavailable` when the system does not start it.
    init(_ program: String, _ arguments: [String], environment added: [String: String]) throws(AccrueError) {
        func check(_ number: Int32) throws(AccrueError) {
            if number != 0 { throw AccrueError(.unavailable, while: "starting \(program)", String(cString: strerror(number)), hint: "check memory and the limits of processes and open files") }
        }
        var ends: [Int32] = [0, 0]
        // Closed on exec from the start: another child that got it too would hold it open after this process is gone.
        let kind = Int32(bitPattern: SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue)
        try check(socketpair(AF_UNIX, kind, 0, &ends) == 0 ? 0 : errno)
        defer { close(ends[0]) }
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_adddup2(&actions, ends[0], 0)

        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        var none = sigset_t(), standard = sigset_t()
        sigemptyset(&none)
        sigemptyset(&standard)
        // What this process ignores a child would ignore too, until it has set itself up.
        for number in [SIGTERM, SIGINT, SIGPIPE] { sigaddset(&standard, number) }
        posix_spawnattr_setsigmask(&attributes, &none)
        posix_spawnattr_setsigdefault(&attributes, &standard)
        // A group of its own: an interrupt from the terminal goes to this process alone, which ends its children in order.
        posix_spawnattr_setpgroup(&attributes, 0)
        posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP))

        let environment = ProcessInfo.processInfo.environment.merging(added) { _, added in added }
        var pid: pid_t = 0
        let status = Self.withPointers([program] + arguments) { arguments in
            Self.withPointers(environment.map { "\($0.key)=\($0.value)" }) { posix_spawn(&pid, program, &actions, &attributes, arguments, $0) }
        }
        if status != 0 { close(ends[1]) }
        try check(status)
        self.pid = pid
        held = ends[1]
    }

    deinit { close(held) }

    /// Waits for the process to end.
    func ended() async -> End {
        await withCheckedContinuation { continuation in
            let thread = Thread { continuation.resume(returning: self.reap()) }
            thread.name = "child \(pid)"
            thread.start()
        }
    }

    /// Asks the process to end, and after a while no longer asks.
    func stop(killAfterMs: Int) {
        send(SIGTERM)
        DispatchQueue.global().asyncAfter(deadline: .now() + .milliseconds(killAfterMs)) { [weak self] in self?.send(SIGKILL) }
    }

    private func send(_ signal: Int32) { isGone.withLock { if !$0 { kill(pid, signal) } } }

    /// Waits first and takes the process off the system's books afterwards, so that no signal can meet another process with its number.
    private func reap() -> End {
        var information = siginfo_t()
        while waitid(P_PID, id_t(pid), &information, WEXITED | WNOWAIT) != 0, errno == EINTR {}
        return isGone.withLock { isGone in
            var status: Int32 = 0
            while waitpid(pid, &status, 0) < 0, errno == EINTR {}
            isGone = true
            return status & 0x7F == 0 ? .code(status >> 8 & 0xFF) : .signal(status & 0x7F)
        }
    }

    private static func withPointers<Result>(_ strings: [String], _ body: ([UnsafeMutablePointer<CChar>?]) -> Result) -> Result {
        let pointers = strings.map { strdup($0) }
        defer { for pointer in pointers { free(pointer) } }
        return body(pointers + [nil])
    }
}
