import AccrueCore
import AccrueWire

/// A pipeline's log as the coordinator holds it, and where each of its chunks stands. Changed only by what the store has committed.
struct PipelineLog: Sendable {
    enum Standing: Equatable, Sendable {
        case waiting
        case absorbed(version: Int)
        case setAside(reason: String)
    }

    /// All entries; the entry at position p has index p − 1.
    private(set) var entries: [LogEntry] = []
    /// Of chunks, imports and changes of settings, by position.
    private(set) var standings: [Int: Standing] = [:]
    /// The schemas that were appended, each with its entry's position, in order.
    private(set) var schemas: [(position: Int, schema: Schema)] = []
    /// Whether something was learned or imported: the newest version is not what the method started with.
    private(set) var isBegun = false
    /// Positions of each content, in order.
    private(set) var positions: [ContentHash: [Int]] = [:]
    private(set) var waiting = PipelineStatus.Amount()
    private(set) var absorbed = PipelineStatus.Amount()
    private(set) var setAside = PipelineStatus.Amount()
    /// The last position that a version, or a round left without chunks, has behind it.
    private(set) var cursor = 0
    /// Rounds behind the cursor that are complete.
    private(set) var completeRounds = 0
    /// Positions behind the cursor that entries set aside, so that no round need look for them in all of the log.
    private var setAsideBehind: Set<Int> = []
    /// Chunks after the last complete round.
    private(set) var openChunks = 0
    private let chunksPerRound: Int

    init(chunksPerRound: Int) { self.chunksPerRound = chunksPerRound }

    var lastPosition: Int { entries.count }

    mutating func append(_ kind: LogEntry.Kind) {
        let position = entries.count + 1
        entries.append(LogEntry(position: position, kind: kind))
        switch kind {
        case .chunk(let chunk):
            standings[position] = .waiting
            positions[chunk.identity, default: []].append(position)
            waiting.add(chunk)
            openChunks += 1
            if openChunks >= chunksPerRound { closeRound() }
        case .cut: if openChunks > 0 { closeRound() }
        case .import, .settings:
            standings[position] = .waiting
            if case .settings(let schema) = kind { schemas.append((position, schema)) }
            if openChunks > 0 { closeRound() }
            closeRound()
        case .setAside(let positions, let reason):
            setAsideBehind.formUnion(positions.filter { $0 > cursor })
            for position in positions where standings[position] == .waiting && !changesSchema(at: position) {
                standings[position] = .setAside(reason: reason)
                guard let chunk = chunk(at: position) else { continue }
                waiting.remove(chunk)
                setAside.add(chunk)
            }
        }
    }

    private mutating func closeRound() {
        completeRounds += 1
        openChunks = 0
    }

    /// A version exists that absorbs everything up to `through` which is not set aside.
    mutating func absorb(through: Int, version: Int) {
        for position in cursor + 1..<through + 1 where standings[position] == .waiting {
            standings[position] = .absorbed(version: version)
            if !changesSchema(at: position) { isBegun = true }
            guard let chunk = chunk(at: position) else { continue }
            waiting.remove(chunk)
            absorbed.add(chunk)
        }
        pass(through: through)
    }

    /// The round up to `through` is over, with or without a version.
    mutating func pass(through: Int) {
        cursor = through
        if !setAsideBehind.isEmpty { setAsideBehind = setAsideBehind.filter { $0 > through } }
        completeRounds -= 1
    }

    /// The round to learn next; nil while it is open.
    var nextStretch: Stretch? {
        completeRounds > 0 ? Stretch.next(in: entries[cursor...], after: cursor, chunksPerRound: chunksPerRound, setAside: setAsideBehind) : nil
    }

    func chunk(at position: Int) -> LogEntry.Chunk? {
        guard entries.indices.contains(position - 1), case .chunk(let chunk) = entries[position - 1].kind else { return nil }
        return chunk
    }

    /// Whether the entry at a position is a change of the schema, which what follows it needs.
    func changesSchema(at position: Int) -> Bool { if case .adapt = change(at: position) { true } else { false } }

    /// What an import or a change of settings at a position does.
    func change(at position: Int) -> Stretch.Change? {
        guard entries.indices.contains(position - 1) else { return nil }
        switch entries[position - 1].kind {
        case .import(let imported): return .adopt(imported)
        case .settings(let schema): return .adapt(schema)
        case .chunk, .cut, .setAside: return nil
        }
    }

    /// Where the log has this change, unless it was set aside there.
    func position(of change: Stretch.Change) -> Int? {
        let kind = change.kind
        return entries.last { entry in
            guard entry.kind == kind else { return false }
            if case .setAside = standings[entry.position] { return false }
            return true
        }?.position
    }

    /// Whether any position of this content may still be learned, by itself or by a person's retry.
    func need(of identity: ContentHash) -> InventoryVerdict? {
        guard let positions = positions[identity] else { return nil }
        var verdict = InventoryVerdict.drop
        for position in positions {
            switch standings[position] {
            case .waiting: return .located
            case .setAside: verdict = .keep
            case .absorbed, nil: break
            }
        }
        return verdict
    }
}

extension PipelineStatus.Amount {
    mutating func add(_ chunk: LogEntry.Chunk) {
        chunks += 1
        rows += chunk.rows
    }

    mutating func remove(_ chunk: LogEntry.Chunk) {
        chunks -= 1
        rows -= chunk.rows
    }
}
