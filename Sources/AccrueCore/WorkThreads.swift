import Dispatch
import Foundation
import Glibc
import Synchronization

/// Threads of one's own for work that would starve the cooperative pool, the sockets or the disk; work is taken up in the order given.
public final class WorkThreads: Sendable {
    public enum Priority: Sendable {
        case normal
        /// Runs only when nothing else wants the processor: learning yields to answering.
        case idle
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

    public init(_ name: String, count: Int = 1, priority: Priority = .normal) {
        self.count = count
        for _ in 0..<count {
            let queue = queue
            let thread = Thread {
                if priority == .idle { Self.becomeIdle() }
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

    private static func becomeIdle() {
        // Linux's SCHED_IDLE; 0 means the calling thread. A kernel that refuses leaves the thread as it was.
        var parameters = sched_param()
        _ = sched_setscheduler(0, 5, &parameters)
    }
}
