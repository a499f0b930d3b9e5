import AccrueCore
import AccrueWire

/// One piece of a round that one worker can do.
struct Piece: Hashable, Sendable {
    var phase: LeasePhase
    var sweep = 0
    /// The shard (fit, statistics) or the index among the round's score parts (score).
    var shard = 0
}

/// A round being learned: which pieces are open, what each needs, and what follows when they are done.
///
/// Scores need only the last version, so they are open from the start and close the round together with `finish`; everything else is a sequence:
/// per sweep all fits, then the merge; then the statistics; then finish.
struct RoundProgress: Sendable {
    enum Step: Equatable, Sendable {
        /// A version that reads no rows: adopt or adapt.
        case change(LeasePhase)
        case fit(sweep: Int), merge(sweep: Int), statistics, finish
        /// Everything is done: the version's state.
        case made(ContentHash)
    }

    let version: Int
    let attempt: Int
    let stretch: Stretch
    let shards: [[RowRange]]
    private let declaration: PipelineDeclaration
    private let baseSchema: Schema
    private let isFirst: Bool
    private let sweeps: Int
    private let phases: MethodPhases
    private let base: ContentHash
    private let rowsBefore: Int
    private(set) var step: Step
    private let scoreParts: [RowRange]
    private var scores: [Score?]
    private var isScored: [Bool]
    private var work: ContentHash?
    /// What the pieces of the step gave, by shard.
    private var parts: [ContentHash?]
    private var isDone: [Bool]
    private var moments: [LeaseTask.Shard] = []
    private(set) var reports: [FitReport] = []
    /// Of the version that the round made.
    private(set) var remarks: [Remark] = []
    private var sweepReports: [FitReport?]

    /// - Parameters:
    ///   - pipeline: with the schema that the version has.
    ///   - baseSchema: of the version before.
    ///   - isFirst: whether nothing was learned or imported before.
    init(
        version: Int, attempt: Int, stretch: Stretch, pipeline: PipelineDeclaration, phases: MethodPhases, base: ContentHash, baseSchema: Schema, isFirst: Bool,
        rowsBefore: Int
    ) {
        declaration = pipeline
        self.baseSchema = baseSchema
        self.isFirst = isFirst
        self.version = version
        self.attempt = attempt
        self.stretch = stretch
        shards = stretch.shards(pipeline.shards)
        sweeps = pipeline.sweeps
        self.phases = phases
        self.base = base
        self.rowsBefore = rowsBefore
        step =
            switch stretch.change {
            case .adopt: .change(.adopt)
            case .adapt: .change(.adapt)
            case nil: .fit(sweep: 0)
            }
        scoreParts = phases.scores ? stretch.scoreParts : []
        scores = Array(repeating: nil, count: scoreParts.count)
        isScored = Array(repeating: false, count: scoreParts.count)
        parts = Array(repeating: nil, count: shards.count)
        isDone = Array(repeating: false, count: shards.count)
        sweepReports = Array(repeating: nil, count: shards.count)
    }

    /// Pieces that can be done now, those that others wait for first.
    var openPieces: [Piece] {
        var pieces: [Piece] = []
        switch step {
        case .change(let phase): pieces = [Piece(phase: phase)]
        case .fit(let sweep): pieces = shards.indices.filter { !isDone[$0] }.map { Piece(phase: .fit, sweep: sweep, shard: $0) }
        case .merge(let sweep): pieces = [Piece(phase: .merge, sweep: sweep)]
        case .statistics: pieces = shards.indices.filter { !isDone[$0] }.map { Piece(phase: .statistics, sweep: sweeps - 1, shard: $0) }
        case .finish: if isScored.allSatisfy(\.self) { pieces = [Piece(phase: .finish, sweep: sweeps - 1)] }
        case .made: return []
        }
        return pieces + isScored.indices.filter { !isScored[$0] }.map { Piece(phase: .score, shard: $0) }
    }

    /// The rows that a piece reads.
    func rows(of piece: Piece) -> [RowRange] {
        switch piece.phase {
        case .fit, .statistics: return shards[piece.shard]
        case .score: return [scoreParts[piece.shard]]
        case .initial, .adopt, .adapt, .check, .merge, .finish: return []
        }
    }

    /// The positions that are at fault when a piece fails without naming a chunk.
    func positions(of piece: Piece) -> [Int] {
        let rows = rows(of: piece)
        return rows.isEmpty ? stretch.positions : Array(Set(rows.map(\.position))).sorted()
    }

    func task(_ piece: Piece, identity: LeaseIdentity, locations: [String: [String]]) -> LeaseTask {
        var task = LeaseTask(
            identity: identity, declaration: declaration, shards: shards.count, roundRows: stretch.rows, rowsBefore: rowsBefore, base: base, work: work,
            rows: rows(of: piece), locations: locations)
        task.isFirst = isFirst
        switch piece.phase {
        case .adopt: if case .adopt(let imported) = stretch.change { task.imported = imported.file }
        case .adapt: task.from = baseSchema
        case .merge: task.parts = deltas
        case .finish:
            task.parts = moments
            task.score = score
        case .initial, .check, .score, .fit, .statistics: break
        }
        return task
    }

    /// Takes what a piece gave.
    /// - Returns: false when the piece is not open: nothing changes then.
    mutating func take(_ piece: Piece, _ done: LeaseDone) -> Bool {
        guard openPieces.contains(piece) else { return false }
        switch piece.phase {
        case .initial, .check: return false
        case .adopt, .adapt:
            guard let blob = done.blob else { return false }
            step = .made(blob)
        case .score:
            scores[piece.shard] = done.score
            isScored[piece.shard] = true
        case .fit, .statistics:
            // A fit without a delta is no fit; statistics may be none.
            if piece.phase == .fit, done.blob == nil { return false }
            parts[piece.shard] = done.blob
            isDone[piece.shard] = true
            if piece.phase == .fit { sweepReports[piece.shard] = done.report }
            if isDone.allSatisfy(\.self) { stepOn() }
        case .merge:
            guard let blob = done.blob, case .merge(let sweep) = step else { return false }
            work = blob
            clearParts()
            step = sweep + 1 < sweeps ? .fit(sweep: sweep + 1) : phases.statistics ? .statistics : .finish
        case .finish:
            guard let blob = done.blob else { return false }
            remarks = done.remarks ?? []
            step = .made(blob)
        }
        return true
    }

    private mutating func stepOn() {
        switch step {
        case .fit(let sweep):
            reports += sweepReports.compactMap(\.self)
            step = .merge(sweep: sweep)
        case .statistics:
            moments = zip(parts, shards).compactMap { part, ranges in part.map { LeaseTask.Shard(blob: $0, rows: Self.rows(ranges)) } }
            clearParts()
            step = .finish
        case .change, .merge, .finish, .made: break
        }
    }

    private mutating func clearParts() {
        parts = Array(repeating: nil, count: shards.count)
        isDone = Array(repeating: false, count: shards.count)
        sweepReports = Array(repeating: nil, count: shards.count)
    }

    private var deltas: [LeaseTask.Shard] {
        zip(parts, shards).compactMap { part, ranges in part.map { LeaseTask.Shard(blob: $0, rows: Self.rows(ranges)) } }
    }

    private static func rows(_ ranges: [RowRange]) -> Int { ranges.reduce(0) { $0 + $1.rows } }

    /// The scores of the round's rows, pooled in log order.
    var score: Score? {
        scores.compactMap(\.self).reduce(nil as Score?) { pooled, part in
            guard var pooled else { return part }
            pooled.merge(part)
            return pooled
        }
    }

    /// Blobs that a lease of this round may still name.
    var blobs: Set<ContentHash> {
        var blobs = Set(parts.compactMap(\.self) + moments.map(\.blob))
        blobs.insert(base)
        if let work { blobs.insert(work) }
        if case .made(let state) = step { blobs.insert(state) }
        return blobs
    }

    /// Whether pieces that read rows are still to come.
    var needsRows: Bool {
        switch step {
        case .change, .made: false
        case .finish: !isScored.allSatisfy(\.self)
        case .fit, .merge, .statistics: true
        }
    }
}
