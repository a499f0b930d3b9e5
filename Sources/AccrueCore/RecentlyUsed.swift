import Synchronization

/// Values kept as long as there is room, the longest unused going first.
public final class RecentlyUsed<Key: Hashable & Sendable, Value: Sendable>: Sendable {
    private struct Entry {
        var value: Value
        var cost: Int
        var used: UInt64
        var turn: Int
    }
    private struct Shared {
        var entries: [Key: Entry] = [:]
        var cost = 0
        var clock: UInt64 = 0
        var turn = 0

        mutating func remove(_ key: Key) {
            if let entry = entries.removeValue(forKey: key) { cost -= entry.cost }
        }
    }

    private let costMax: Int
    private let shared = Mutex(Shared())

    public init(costMax: Int) { self.costMax = costMax }

    public subscript(key: Key) -> Value? {
        shared.withLock { shared in
            guard var entry = shared.entries[key] else { return nil }
            shared.clock += 1
            entry.used = shared.clock
            entry.turn = shared.turn
            shared.entries[key] = entry
            return entry.value
        }
    }

    /// Values that alone cost more than there is room are not kept.
    public func insert(_ value: Value, for key: Key, cost: Int) {
        shared.withLock { shared in
            shared.remove(key)
            guard cost <= costMax else { return }
            shared.clock += 1
            shared.entries[key] = Entry(value: value, cost: cost, used: shared.clock, turn: shared.turn)
            shared.cost += cost
            while shared.cost > costMax, let oldest = shared.entries.min(by: { $0.value.used < $1.value.used }) {
                shared.remove(oldest.key)
            }
        }
    }

    /// Ends a turn; what was not used in the last `turns` goes. Called at a steady pace it keeps memory to what is in use, whatever came before.
    public func endTurn(keeping turns: Int) {
        shared.withLock { shared in
            shared.turn += 1
            for (key, entry) in shared.entries where shared.turn - entry.turn > turns { shared.remove(key) }
        }
    }
}
