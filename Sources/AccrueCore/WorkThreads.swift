import Dispatch
import Foundation
import Glibc
import Synchronization

/// Threads of one's own for work that would starve the cooperative pool, the sockets or the disk; work is taken up in the order given.
public final class WorkThreads: Sendable {
    public enum Priority: Sendable {
        case normal
        /// Yields to whatever else wants the processor: learning yields to answering.
        case yielding
    }

    private struct Shared {
        var waiting: [@Sendable () -> Void] = []
        var isStopped = false
    }

    private final class Queue: Sendable {
        let shared = Mutex(Shared())
        let wake = DispatchSemaphore(value: 0)
    }

    private let queue = Queue()
    private let count: Int

    /// - Parameter begin: called on each thread before its first work.
    public init(_ name: String, count: Int = 1, priority: Priority = .normal, begin: @escaping @Sendable () -> Void = {}) {
        self.count = count
        for _ in 0..<count {
            let queue = queue
            let thread = Thread {
                if priority == .yielding { Self.yield() }
                begin()
                while true {
                    queue.wake.wait()
                    let (work, isStopped) = queue.shared.withLock { shared in
                        (shared.waiting.isEmpty ? nil : shared.waiting.removeFirst(), shared.isStopped)
                    }
                    if let work { work() } else if isStopped { return }
                }
            }
            thread.name = name
            thread.stackSize = 16 << 20
            thread.start()
        }
    }

    deinit { stop() }

    /// How much waits, not counting what runs.
    public var waiting: Int { queue.shared.withLock { $0.waiting.count } }

    public func submit(_ work: @escaping @Sendable () -> Void) {
        queue.shared.withLock { $0.waiting.append(work) }
        queue.wake.signal()
    }

    /// Does `work` on one of the threads.
    public func run<Value: Sendable>(_ work: @escaping @Sendable () -> Value) async -> Value {
        await withCheckedContinuation { continuation in submit { continuation.resume(returning: work()) } }
    }

    /// Ends the threads when what was submitted before is done.
    public func stop() {
        let first = queue.shared.withLock { shared in
            defer { shared.isStopped = true }
            return !shared.isStopped
        }
        if first { for _ in 0..<count { queue.wake.signal() } }
    }

    /// How nice a yielding thread is. Linux gives it a tenth of a processor that others keep busy, and lets a thread of normal priority that wakes
    /// run before it at once, as it would before SCHED_IDLE; but SCHED_IDLE leaves learning 0.4 % of a busy machine, which is not progress.
    public static let yieldingNice: Int32 = 10

    private static func yield() {
        // For Linux a thread is what setpriority takes for a process; 0 means the calling one. A refusal leaves the thread as it was.
        _ = setpriority(__priority_which_t(PRIO_PROCESS.rawValue), 0, yieldingNice)
    }
}
