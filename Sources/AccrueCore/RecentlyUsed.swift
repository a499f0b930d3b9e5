import Synchronization

/// Values kept as long as there is room, the longest unused going first.
public final class RecentlyUsed<Key: Hashable & Sendable, Value: Sendable>: Sendable {
    private struct Entry {
        var value: Value
        var cost: Int
        var used: UInt64
    }
    private struct Shared {
        var entries: [Key: Entry] = [:]
        var cost = 0
        var clock: UInt64 = 0
    }

    private let costMax: Int
    private let shared = Mutex(Shared())

    public init(costMax: Int) { self.costMax = costMax }

    public subscript(key: Key) -> Value? {
        shared.withLock { shared in
            shared.clock += 1
            shared.entries[key]?.used = shared.clock
            return shared.entries[key]?.value
        }
    }

    /// Values that alone cost more than there is room are not kept.
    public func insert(_ value: Value, for key: Key, cost: Int) {
        shared.withLock { shared in
            if let old = shared.entries.removeValue(forKey: key) { shared.cost -= old.cost }
            guard cost <= costMax else { return }
            shared.clock += 1
            shared.entries[key] = Entry(value: value, cost: cost, used: shared.clock)
            shared.cost += cost
            while shared.cost > costMax, let oldest = shared.entries.min(by: { $0.value.used < $1.value.used }) {
                shared.entries[oldest.key] = nil
                shared.cost -= oldest.value.cost
            }
        }
    }
}
