import Foundation
import Synchronization

/// How much work from outside may be under way: a bounded number of requests, or of what they hold, and bytes; one is always taken, and none after closing.
final class Admission: Sendable {
    private struct Shared {
        var count = 0
        var bytes = 0
        var isClosed = false
        var drained: [CheckedContinuation<Void, Never>] = []
    }

    private let countMax: Int
    private let bytesMax: Int
    private let shared = Mutex(Shared())

    init(countMax: Int, bytesMax: Int) {
        self.countMax = countMax
        self.bytesMax = bytesMax
    }

    /// - Parameter count: for how many it counts.
    /// - Returns: whether it is taken; then `leave` with the same must follow.
    func enter(count: Int = 1, bytes: Int) -> Bool {
        shared.withLock { shared in
            guard !shared.isClosed, shared.count == 0 || (shared.count + count <= countMax && shared.bytes + bytes <= bytesMax) else { return false }
            shared.count += count
            shared.bytes += bytes
            return true
        }
    }

    /// One that was taken turns out to be larger.
    func grow(by bytes: Int) { shared.withLock { $0.bytes += bytes } }

    func leave(count: Int = 1, bytes: Int) {
        let drained = shared.withLock { shared -> [CheckedContinuation<Void, Never>] in
            shared.count -= count
            shared.bytes -= bytes
            guard shared.count == 0 else { return [] }
            defer { shared.drained = [] }
            return shared.drained
        }
        for continuation in drained { continuation.resume() }
    }

    /// Takes nothing more, and returns when all that was taken has left, or after a while.
    func close(patienceMs: Int) async {
        shared.withLock { $0.isClosed = true }
        await withTaskGroup(of: Void.self) { group in
            group.addTask { await self.empty() }
            group.addTask { try? await Task.sleep(for: .milliseconds(patienceMs)) }
            await group.next()
            // The other one must end too.
            let waiting = self.shared.withLock { shared in
                defer { shared.drained = [] }
                return shared.drained
            }
            for continuation in waiting { continuation.resume() }
            group.cancelAll()
        }
    }

    private func empty() async {
        await withCheckedContinuation { continuation in
            let isEmpty = shared.withLock { shared in
                if shared.count > 0 { shared.drained.append(continuation) }
                return shared.count == 0
            }
            if isEmpty { continuation.resume() }
        }
    }
}
