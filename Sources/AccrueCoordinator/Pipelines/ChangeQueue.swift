import AccrueCore
import AccrueStore
import AccrueWire

/// Who asked, and under which id: where an answer goes that cannot be given at once.
struct Asker: Hashable, Comparable, Sendable {
    var peer: Peer
    var id: String?
    /// Nil: the home's owner.
    var key: PublicKey?

    /// Any fixed order, so that what is sent does not depend on where a dictionary puts its keys.
    static func < (left: Asker, right: Asker) -> Bool { (left.peer.description, left.id ?? "") < (right.peer.description, right.id ?? "") }
}

/// Changes of one pipeline's truth that wait their turn: one is with the store at a time, so that each is decided on what the one before left.
struct ChangeQueue: Sendable {
    enum Origin: Hashable, Sendable {
        /// An item of an announcement.
        case announcement(number: Int, item: Int)
        /// An item of a page of an inventory.
        case inventory(page: Int, item: Int)
    }

    enum Change: Sendable {
        case append([(announced: AnnouncedChunk, origin: Origin)])
        /// Nil: the linger timer.
        case cut(Asker?)
        case setAside(positions: [Int], reason: String, Asker?)
        /// The entry of a proposal that fits, by number.
        case propose(Int)
        case retry(positions: [Int], made: [Int], Asker)
        case publish(VersionRecord)
        case pause(String?, Asker?)
        case delete(Asker)
    }

    private(set) var waiting: [Change] = []
    /// With the store now, under this number.
    var current: (number: Int, change: Change)?

    var holdsCut: Bool {
        let changes = (current.map { [$0.change] } ?? []) + waiting
        return changes.contains { if case .cut = $0 { true } else { false } }
    }

    /// Chunks that are not in the log yet.
    var chunksUnderWay: Int {
        ((current.map { [$0.change] } ?? []) + waiting).reduce(0) { sum, change in if case .append(let chunks) = change { sum + chunks.count } else { sum } }
    }

    mutating func add(_ change: Change) {
        // Chunks that wait together go into one transaction.
        if case .append(let more) = change, case .append(let chunks)? = waiting.last {
            waiting[waiting.count - 1] = .append(chunks + more)
        } else {
            waiting.append(change)
        }
    }

    mutating func putFirst(_ change: Change) { waiting.insert(change, at: 0) }

    mutating func takeNext() -> Change? { waiting.isEmpty ? nil : waiting.removeFirst() }
}
