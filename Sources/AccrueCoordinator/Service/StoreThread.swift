import AccrueCore
import AccrueStore
import Foundation

/// Makes the changes of truth, one after the other, on a thread of their own.
final class StoreThread: Sendable {
    private let store: Store
    private let blob: @Sendable (ContentHash) -> Data?
    private let fatal: @Sendable (AccrueError) -> Void
    private let threads = WorkThreads("store")

    /// - Parameters:
    ///   - blob: a state that a worker has put.
    ///   - fatal: told when what the disk holds is unknown; must not return.
    init(_ store: Store, blob: @escaping @Sendable (ContentHash) -> Data?, fatal: @escaping @Sendable (AccrueError) -> Void) {
        self.store = store
        self.blob = blob
        self.fatal = fatal
    }

    func make(_ change: StoreChange, done: @escaping @Sendable (StoreOutcome) -> Void) {
        threads.submit { [self] in
            do throws(AccrueError) { done(try store.make(change, state: blob)) } catch {
                switch error.code {
                case .conflict, .notFound, .invalidInput: done(.refused(error))
                default: fatal(error)
                }
            }
        }
    }

    /// Returns when every change asked for before is made.
    func finish() async { await threads.run {} }
}
