public import AccrueCore
import Dispatch
import Synchronization

/// Runs an asynchronous service from a program's main thread, which waits for it.
public func waitFor(_ service: @escaping @Sendable () async throws(AccrueError) -> Void) throws(AccrueError) {
    let done = DispatchSemaphore(value: 0)
    let failure = Mutex<AccrueError?>(nil)
    Task {
        do throws(AccrueError) { try await service() } catch { failure.withLock { $0 = error } }
        done.signal()
    }
    done.wait()
    if let error = failure.withLock({ $0 }) { throw error }
}
