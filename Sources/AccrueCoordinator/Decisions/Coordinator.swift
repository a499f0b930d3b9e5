public import AccrueCore
public import AccrueStore
public import AccrueWire

/// A pipeline as the store gives it when a coordinator starts.
public struct RecoveredPipeline: Sendable {
    public var stored: StoredPipeline
    public var entries: [LogEntry]
    /// Oldest first; never empty.
    public var versions: [VersionRecord]
    public var holders: [ContentHash: Set<String>]

    /// Everything a store knows of its pipelines.
    /// - Throws: `corrupt` or `unavailable` as the store does.
    public static func all(of store: Store) throws(AccrueError) -> [RecoveredPipeline] {
        var pipelines: [RecoveredPipeline] = []
        for stored in try store.pipelines() {
            pipelines.append(
                RecoveredPipeline(
                    stored: stored, entries: try store.entries(after: 0, incarnation: stored.incarnation), versions: try store.versions(incarnation: stored.incarnation),
                    holders: try store.holders(incarnation: stored.incarnation)))
        }
        return pipelines
    }
}

/// Turns what arrives into versions: the decisions, and nothing else.
///
/// A value without clock, socket, disk or task: every event comes with its moment, and what is to be done is returned. Truth is what the store has
/// answered; everything else here (sessions, leases, rounds under way) is made again from truth after a restart.
///
/// What it keeps:
/// - Nothing is answered before it is committed; a pipeline's changes are made one at a time, each decided on what the one before left.
/// - A version follows from (pipeline, seed, log) alone: which worker does a piece, when, and how often, changes nothing.
/// - An answer to a lease counts only if its identity is one that the round still waits for.
/// - Only an error that the method returned, confirmed once more, sets data aside.
public struct Coordinator: Sendable {
    let boot: String
    let endpoints: Endpoints
    let timing: CoordinatorTiming
    /// By incarnation.
    var pipelines: [String: PipelineLearning] = [:]
    /// Incarnations by name.
    var names: [String: String] = [:]
    /// Pipelines whose version 0 is being made, by name.
    var creations: [String: Creation] = [:]
    /// Entries that were asked for and are not in the log yet, by number.
    var proposals: [Int: Proposal] = [:]
    /// By worker's or querier's name.
    var sessions: [String: Session] = [:]
    /// Nil where no socket asks for a key.
    var keys: KeyListing?
    var leases = LeaseBook()
    var events: EventHistory
    var awaiting: [Asker: Awaiting] = [:]
    /// Pages of inventories, and announcements, by number.
    var pages: [Int: Gathering<InventoryVerdict>] = [:]
    var announcements: [Int: Gathering<AnnounceReply.Result>] = [:]
    var owners: [Int: Owner] = [:]
    private var lastNumber = 0
    private var effects: [CoordinatorEffect] = []

    /// Whose change a store request is.
    enum Owner: Sendable {
        case pipeline(incarnation: String)
        case creation(name: String)
    }

    /// - Parameters:
    ///   - boot: a nonce of this process.
    ///   - endpoints: where bulk and events are.
    public init(boot: String, endpoints: Endpoints, recovered: [RecoveredPipeline], timing: CoordinatorTiming = CoordinatorTiming(), at now: Moment) {
        self.boot = boot
        self.endpoints = endpoints
        self.timing = timing
        events = EventHistory(at: now)
        for pipeline in recovered {
            let stored = pipeline.stored
            pipelines[stored.incarnation] = PipelineLearning(
                declaration: stored.declaration, incarnation: stored.incarnation, phases: stored.phases, entries: pipeline.entries, versions: pipeline.versions,
                holders: pipeline.holders, paused: stored.paused, at: now)
            names[stored.declaration.name] = stored.incarnation
        }
    }

    /// Takes one event.
    /// - Returns: what is to be done, in order.
    public mutating func receive(_ event: CoordinatorEvent, at now: Moment) -> [CoordinatorEffect] {
        switch event {
        case .message(let message, let peer, let key):
            let asker = Asker(peer: peer, id: message.id, key: key)
            do throws(AccrueError) { try take(message, from: asker, at: now) } catch { refuse(asker, error) }
        case .stored(let number, let outcome): stored(number, outcome, at: now)
        case .authorised(let keys): authorise(keys, at: now)
        case .tick: tick(now)
        }
        advance(now)
        defer { effects = [] }
        return effects
    }

    /// Blobs that a lease may still name; all others may be forgotten.
    public var referencedBlobs: Set<ContentHash> {
        var blobs: Set<ContentHash> = []
        for pipeline in pipelines.values { if let round = pipeline.round { blobs.formUnion(round.blobs) } }
        for creation in creations.values { if let state = creation.state { blobs.insert(state) } }
        for proposal in proposals.values { if let file = proposal.file { blobs.insert(file) } }
        return blobs
    }

    private mutating func take(_ message: Message, from asker: Asker, at now: Moment) throws(AccrueError) {
        switch message.known {
        case .hello: try hello(try message.read(), asker, at: now)
        case .heartbeat: try heartbeat(try message.read(), asker, at: now)
        case .ready: try ready(try message.read(), asker, at: now)
        case .inventory: try inventory(try message.read(), asker, at: now)
        case .announce: try announce(try message.read(), asker, at: now)
        case .done: try done(try message.read(), asker, at: now)
        case .failed: try failed(try message.read(), asker, at: now)
        case .pipelines, .pipelineList: reply(asker, listing)
        case .keys: reply(asker, keys ?? KeyListing(keys: []))
        case .pipelineShow: reply(asker, record(try pipeline(try message.read(PipelineName.self).pipeline)))
        case .pipelineApply: try apply(message.header["declaration"] ?? .null, asker)
        case .pipelineDelete: try change(try message.read(PipelineName.self).pipeline, .delete(asker))
        case .pipelineResume: try change(try message.read(PipelineName.self).pipeline, .pause(nil, asker))
        case .flush: try change(try message.read(PipelineName.self).pipeline, .cut(asker))
        case .await: try awaitPosition(try message.read(), asker, at: now)
        case .chunksList: reply(asker, try chunks(try message.read()))
        case .chunksSetAside: try setAside(try message.read(), asker)
        case .chunksRetry: try retry(try message.read(), asker)
        case .posteriorList: reply(asker, try posteriors(try message.read()))
        case .posteriorShow: reply(asker, try posterior(try message.read()))
        case .posteriorImport: try importPosterior(try message.read(), asker)
        case .status: reply(asker, status)
        case .events:
            let query = try message.read(EventsQuery.self)
            reply(asker, EventListing(events: events.after(query.after, limit: Self.limit(query.limit))))
        default:
            let known = StrictKeys.nearest(to: message.verb, in: Verb.allCases.map(\.rawValue)).map { "did you mean '\($0)'? " } ?? ""
            throw AccrueError(
                .invalidInput, while: "taking '\(message.verb)'", "the control socket does not understand this verb", hint: "\(known)see ops/PROTOCOL.md")
        }
    }

    // What is wanted.

    mutating func send(_ message: Message, to peer: Peer) { effects.append(.send(message, to: peer)) }

    mutating func reply(_ asker: Asker, _ header: some Encodable) {
        do throws(AccrueError) { send(try .reply(asker.id, encoding: header), to: asker.peer) } catch { refuse(asker, error) }
    }

    mutating func acknowledge(_ asker: Asker) { send(.reply(asker.id), to: asker.peer) }

    mutating func refuse(_ asker: Asker, _ error: AccrueError) { send(.refuse(asker.id, error), to: asker.peer) }

    /// Tells a worker something unasked; what cannot be written is not told.
    mutating func tell(_ worker: String, _ verb: Verb, _ header: some Encodable) {
        guard let session = sessions[worker], session.isAlive, let message = try? Message(verb, encoding: header) else { return }
        send(message, to: session.peer)
    }

    mutating func hint(_ kind: Hint.Kind, _ pipeline: String, version: Int? = nil) {
        effects.append(.hint(Hint(kind: kind, pipeline: pipeline, version: version)))
    }

    mutating func store(_ change: StoreChange, for owner: Owner) -> Int {
        lastNumber += 1
        owners[lastNumber] = owner
        effects.append(.store(number: lastNumber, change))
        return lastNumber
    }

    mutating func note(_ kind: String, _ pipeline: String? = nil, _ text: String, at now: Moment) {
        events.add(kind, pipeline: pipeline, text, at: now)
        if let pipeline { hint(.event, pipeline) }
    }

    mutating func nextNumber() -> Int {
        lastNumber += 1
        return lastNumber
    }

    // What is known.

    func incarnation(_ name: String) throws(AccrueError) -> String {
        guard let incarnation = names[name] else {
            let close = StrictKeys.nearest(to: name, in: Array(names.keys)).map { "did you mean '\($0)'? " } ?? ""
            throw AccrueError(.notFound, while: "looking for pipeline '\(name)'", "there is no such pipeline", hint: "\(close)see 'accrue pipeline list', or apply it first")
        }
        return incarnation
    }

    func pipeline(_ name: String) throws(AccrueError) -> PipelineLearning {
        guard let pipeline = pipelines[try incarnation(name)] else {
            throw AccrueError(.notFound, while: "looking for pipeline '\(name)'", "there is no such pipeline")
        }
        return pipeline
    }

    var aliveWorkers: Set<String> { Set(sessions.values.filter { $0.isAlive && $0.role == .worker }.map(\.name)) }

    static func limit(_ asked: Int?) -> Int { max(1, min(asked ?? Limits.pageItemsMax, Limits.pageItemsMax)) }
}
