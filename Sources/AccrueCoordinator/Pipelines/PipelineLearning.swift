import AccrueCore
import AccrueStore
import AccrueWire

/// A pipeline as the coordinator runs it: its log, its versions, where its rows are, and the round being learned.
struct PipelineLearning: Sendable {
    /// With the newest schema that was accepted.
    private(set) var declaration: PipelineDeclaration
    private let firstSchema: Schema
    let incarnation: String
    let phases: MethodPhases
    var log: PipelineLog
    private(set) var versions: [VersionRecord]
    /// Workers that hold, or last held, each chunk.
    var holders: [ContentHash: Set<String>]
    var paused: String?
    var round: RoundProgress?
    /// The version of the round is on its way to the store.
    var isPublishing = false
    /// Counts the tries at the version after the newest, also over rounds that were emptied: no two tries have the same leases.
    private var attempt = 0
    /// Since when the round lacks rows that no live worker holds.
    var lackingSince: Moment?
    var isBlocked = false
    /// When the oldest chunk of the open round came.
    var openSince: MonotonicTime?
    var changes = ChangeQueue()

    var name: String { declaration.name }

    /// - Parameter versions: not empty, oldest first.
    init(
        declaration: PipelineDeclaration, incarnation: String, phases: MethodPhases, entries: [LogEntry] = [], versions: [VersionRecord],
        holders: [ContentHash: Set<String>] = [:], paused: String? = nil, at now: Moment
    ) {
        precondition(!versions.isEmpty, "a pipeline has a version 0")
        self.declaration = declaration
        firstSchema = declaration.schema
        self.incarnation = incarnation
        self.phases = phases
        self.versions = versions
        self.holders = holders
        self.paused = paused
        log = PipelineLog(chunksPerRound: declaration.round.chunks)
        for entry in entries { log.append(entry.kind) }
        // Rounds that were left without chunks made no version; they lie behind the next one.
        for version in versions.dropFirst() {
            while let stretch = log.nextStretch, stretch.through < version.through { log.pass(through: stretch.through) }
            log.absorb(through: version.through, version: version.version)
        }
        if let last = log.schemas.last { self.declaration.schema = last.schema }
        if log.openChunks > 0 { openSince = now.monotonic }
    }

    var newest: VersionRecord { versions[versions.count - 1] }

    func version(_ number: Int?) -> VersionRecord? {
        guard let number else { return newest }
        return versions.indices.contains(number) ? versions[number] : nil
    }

    mutating func append(_ kind: LogEntry.Kind, at now: Moment) {
        log.append(kind)
        if case .settings(let schema) = kind { declaration.schema = schema }
        if log.openChunks == 0 { openSince = nil } else { openSince = openSince ?? now.monotonic }
    }

    /// The schema in effect at a position of the log.
    func schema(through position: Int) -> Schema { log.schemas.last { $0.position <= position }?.schema ?? firstSchema }

    /// Begins the next round if there is one to learn; rounds that were left without chunks are passed by.
    mutating func beginRound() {
        while round == nil, !isPublishing, paused == nil, let stretch = log.nextStretch {
            if stretch.isEmpty {
                log.pass(through: stretch.through)
                continue
            }
            round = RoundProgress(
                version: newest.version + 1, attempt: attempt, stretch: stretch, pipeline: declaration.with(schema: schema(through: stretch.through)), phases: phases,
                base: newest.state, baseSchema: schema(through: stretch.after), isFirst: !log.isBegun, rowsBefore: newest.absorbedRows)
        }
    }

    /// The round is to be learned anew, without what has been set aside.
    mutating func restartRound() {
        guard round != nil else { return }
        round = nil
        isPublishing = false
        attempt += 1
        lackingSince = nil
    }

    /// The version that the finished round makes.
    func made(_ state: ContentHash, at now: Moment) -> VersionRecord? {
        guard let round else { return nil }
        return VersionRecord(
            version: round.version, state: state, through: round.stretch.through, absorbedChunks: newest.absorbedChunks + round.stretch.chunks.count,
            absorbedRows: newest.absorbedRows + round.stretch.rows, score: round.score, reports: round.reports, createdAtMs: now.wallMs)
    }

    /// The version exists.
    /// - Returns: contents that nothing needs any more, each with the workers that hold it.
    mutating func published(_ version: VersionRecord) -> [(identity: ContentHash, workers: Set<String>)] {
        versions.append(version)
        log.absorb(through: version.through, version: version.version)
        round = nil
        isPublishing = false
        attempt = 0
        lackingSince = nil
        var dropped: [(identity: ContentHash, workers: Set<String>)] = []
        guard let expired = retention.expired(by: version.version) else { return [] }
        for position in versions[expired - 1].through + 1..<versions[expired].through + 1 {
            guard let chunk = log.chunk(at: position), need(of: chunk.identity) == .drop, let workers = holders.removeValue(forKey: chunk.identity) else { continue }
            dropped.append((chunk.identity, workers))
        }
        return dropped
    }

    private var retention: Retention { declaration.retention?.data ?? .none }

    /// What is to become of a content's bytes: it may still be learned (`located`, `keep`), is kept by the retention (`keep`), or may go; nil: never heard of.
    func need(of identity: ContentHash) -> InventoryVerdict? {
        guard let need = log.need(of: identity) else { return nil }
        guard need == .drop, let last = log.positions[identity]?.last, case .absorbed(let version) = log.standings[last],
            retention.keeps(absorbedBy: version, newest: newest.version)
        else { return need }
        return .keep
    }

    func posterior(_ version: VersionRecord) -> PosteriorRecord {
        PosteriorRecord(
            pipeline: name, incarnation: incarnation, version: version.version, hash: version.state, bytes: version.bytes, through: version.through,
            absorbedChunks: version.absorbedChunks, absorbedRows: version.absorbedRows, score: version.score, createdAtMs: version.createdAtMs,
            schema: schema(through: version.through))
    }

    func record(leasedWorkers: Int, trouble: String?) -> AccrueWire.PipelineRecord {
        PipelineRecord(declaration: declaration, incarnation: incarnation, phases: phases, status: status(leasedWorkers: leasedWorkers, trouble: trouble))
    }

    /// - Parameter trouble: why work that is given out does not get on.
    func status(leasedWorkers: Int = 0, trouble: String? = nil) -> PipelineStatus {
        var status = PipelineStatus(
            name: name, incarnation: incarnation, state: .active, version: newest.version, position: log.lastPosition, absorbed: log.absorbed,
            waiting: log.waiting, setAside: log.setAside, workers: leasedWorkers, figures: newest.score?.figures)
        if let paused {
            status.state = .paused
            status.reason = paused
        } else if isBlocked {
            status.state = .blocked
            status.blocked = blockedBy
            status.reason = status.blocked.map { blocked in
                "the only copy of the chunk at position \(blocked.position) is on \(blocked.worker.map { "worker '\($0)', which is away" } ?? "a worker that is not known")"
            }
        } else {
            status.reason = trouble
        }
        return status
    }

    /// What a blocked round waits for: its first chunk that was found without a live holder.
    private var blockedBy: PipelineStatus.Blocked? {
        guard let lacking, let since = lackingSince else { return nil }
        return PipelineStatus.Blocked(
            position: lacking.position, chunk: lacking.chunk.identity, worker: holders[lacking.chunk.identity]?.min(), sinceMs: since.wallMs)
    }
    private(set) var lacking: Stretch.PositionedChunk?

    /// Looks whether live workers hold all rows that the round still reads.
    mutating func findLacking(alive: Set<String>, at now: Moment) {
        lacking = nil
        if let round, round.needsRows {
            lacking = round.stretch.chunks.first { holders[$0.chunk.identity]?.isDisjoint(with: alive) ?? true }
        }
        lackingSince = lacking == nil ? nil : lackingSince ?? now
    }

    /// Each acknowledged chunk and what became of it.
    func chunk(at position: Int, alive: Set<String>) -> ChunkRecord? {
        guard let chunk = log.chunk(at: position) else { return nil }
        var record = ChunkRecord(position: position, chunk: chunk, state: .waiting, workers: (holders[chunk.identity] ?? []).intersection(alive).sorted())
        switch log.standings[position] {
        case .absorbed(let version):
            record.state = .absorbed
            record.version = version
        case .setAside(let reason):
            record.state = .setAside
            record.reason = reason
        case .waiting, nil: break
        }
        return record
    }
}
