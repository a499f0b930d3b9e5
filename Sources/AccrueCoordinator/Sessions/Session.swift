import AccrueCore
import AccrueWire

/// A worker or querier as the coordinator knows it.
struct Session: Sendable {
    let name: String
    let role: Role
    let boot: String?
    let endpoint: String?
    let peer: Peer
    /// Whose it is: no other may speak for it or take its name. Nil: the home's owner.
    let key: PublicKey?
    var heardAt: MonotonicTime
    var isAlive = true
    /// It said that it would take a lease, and has none.
    var isReady = false
    var lease: LeaseIdentity?
    var step: Int?
    /// The lease it held when it was given up; forgiven when the same process comes back.
    var lostLease: LeaseIdentity?
    /// Contents that it told of since it said hello; an inventory that lacks others takes them away. Nil once that is done: a page that comes
    /// again says nothing of what was pushed since.
    var told: Set<ContentHashOf>? = []

    struct ContentHashOf: Hashable, Sendable {
        var incarnation: String
        var identity: ContentHash
    }

    var status: WorkerStatus { WorkerStatus(name: name, role: role, endpoint: endpoint, alive: isAlive, lease: lease, step: step) }
}

/// An answer of one part an item asked about, some of which are not known yet.
struct Gathering<Part: Sendable>: Sendable {
    var asker: Asker
    private var parts: [Part?]
    private var missing: Int

    init(asker: Asker, parts: [Part?]) {
        self.asker = asker
        self.parts = parts
        missing = parts.count { $0 == nil }
    }

    mutating func set(_ part: Part, at index: Int) {
        if parts[index] == nil { missing -= 1 }
        parts[index] = part
    }

    /// All parts, once they are known.
    var whole: [Part]? { missing == 0 ? parts.compactMap(\.self) : nil }
}
