public import AccrueCore
public import AccrueStore
public import AccrueWire

/// A moment as the coordinator is told it: it has no clock of its own.
public struct Moment: Sendable {
    /// Decides: what is late, what is due.
    public var monotonic: MonotonicTime
    /// For people only: milliseconds since 1970.
    public var wallMs: Int
    public init(monotonic: MonotonicTime, wallMs: Int) {
        self.monotonic = monotonic
        self.wallMs = wallMs
    }
}

/// What happens to a coordinator.
public enum CoordinatorEvent: Sendable {
    /// A message on the control socket, from the holder of a key or, without one, from the home's owner. What the key's role does not allow never comes
    /// here.
    case message(Message, from: Peer, key: PublicKey? = nil)
    /// Who is let in on sockets that ask for a key, from now on.
    case authorised([AuthorisedKey])
    /// What became of a store request.
    case stored(number: Int, StoreOutcome)
    /// Time has passed; wanted a few times a second.
    case tick
}

/// What a coordinator wants done, in order.
public enum CoordinatorEffect: Sendable {
    case send(Message, to: Peer)
    /// Published to whoever subscribed; may be lost.
    case hint(Hint)
    /// One change of truth. Changes are made one after the other, in the order wanted; each is answered by `stored`.
    case store(number: Int, StoreChange)
}

/// One change of truth: one transaction.
public enum StoreChange: Sendable {
    case append([AnnouncedChunk], incarnation: String)
    case appendEntry(LogEntry.Kind, incarnation: String)
    case retry(position: Int, incarnation: String)
    case create(PipelineDeclaration, incarnation: String, phases: MethodPhases, state: ContentHash, createdAtMs: Int)
    case delete(incarnation: String)
    case setPaused(String?, incarnation: String)
    /// The version's state is a blob that a worker has put; it becomes a file before the version exists.
    case publish(VersionRecord, incarnation: String)
}

/// What a change of truth came to. A store that cannot say ends the process; truth is then read again from the disk.
public enum StoreOutcome: Sendable {
    case appended([AppendResult])
    case position(Int)
    case done(bytes: Int)
    /// The store refuses this change and is as it was.
    case refused(AccrueError)
}

/// How patient a coordinator is.
public struct CoordinatorTiming: Sendable {
    /// A process not heard for this long counts as dead.
    public var silenceMs = 3_000
    /// A lease whose step counter stands still for this long is given to another worker.
    public var stallMs = 60_000
    /// A round lacks rows for this long before its pipeline is called blocked.
    public var blockedAfterMs = 3_000
    /// First wait before a lease that failed for its surroundings is given again; doubled each time up to `againMaxMs`.
    public var againMs = 200
    public var againMaxMs = 5_000
    /// Worker processes that may die in one lease before a person must decide.
    public var deathsMax = 3
    public init() {}
}
