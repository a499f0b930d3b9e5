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
            do throws(AccrueError) { done(try perform(change)) } catch {
                switch error.code {
                case .conflict, .notFound, .invalidInput: done(.refused(error))
                default: fatal(error)
                }
            }
        }
    }

    /// Returns when every change asked for before is made.
    func finish() async { await threads.run {} }

    private func perform(_ change: StoreChange) throws(AccrueError) -> StoreOutcome {
        switch change {
        case .append(let chunks, let incarnation): return .appended(try store.append(chunks, incarnation: incarnation))
        case .appendEntry(let kind, let incarnation): return .position(try store.append(kind, incarnation: incarnation))
        case .retry(let position, let incarnation): return .position(try store.retry(position: position, incarnation: incarnation))
        case .create(let declaration, let incarnation, let phases, let state, let createdAtMs):
            let bytes = try keep(state)
            try store.createPipeline(declaration, incarnation: incarnation, phases: phases, initialState: state, bytes: bytes, createdAtMs: createdAtMs)
            return .done(bytes: bytes)
        case .delete(let incarnation):
            try store.deletePipeline(incarnation: incarnation)
            return .done(bytes: 0)
        case .setPaused(let reason, let incarnation):
            try store.setPaused(reason, incarnation: incarnation)
            return .done(bytes: 0)
        case .publish(var version, let incarnation):
            version.bytes = try keep(version.state)
            try store.publish(version, incarnation: incarnation)
            return .done(bytes: version.bytes)
        }
    }

    /// Makes a state durable under its hash.
    private func keep(_ state: ContentHash) throws(AccrueError) -> Int {
        guard let bytes = blob(state) else {
            if store.states.exists(state) { return try store.states.read(state).count }
            throw AccrueError(.corrupt, while: "keeping state \(state.short)", "its bytes are gone from memory", hint: "start again: the round is learned anew")
        }
        _ = try store.states.put(bytes)
        return bytes.count
    }
}
