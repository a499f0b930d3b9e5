import AccrueBayes
import AccrueCore
import AccrueTensor

/// Kept rows that are learned again beside a round's own.
///
/// The past's N rows speak through a Gaussian (the last posterior as prior, or sites of the likelihood), and through m kept rows, whose log likelihood times N/m
/// estimates all theirs without a bias. Each has a share of the say, and the first prior, which is no row's, all of its own: where the Gaussian is the last
/// posterior,
///
///     mean loss + s·(N/n)·mean loss of kept rows + (T/2n) Σ ((1 − s) P (w − m)² + s P₀ w²)
///
/// and where it is sites, beside which the prior stands anyway, (1 − s) times those. Likewise of what the next Gaussian says: s·(N/m) times what kept rows say at
/// the new weights stands for as much of the old one. No row of the past counts twice. That the two are mixed so is this project's design.
struct Replay: Sendable {
    /// The section `reservoir` of a method's settings.
    struct Settings: Sendable {
        /// Rows of all so far that are kept to be learned again with every part, drawn uniformly; default 0.
        var rows: Int
        /// s: share of the past's say that the kept rows have; the Gaussian has the rest. Default 0.5.
        var share: Double
        /// Kept rows that a step learns again for each of its own; more of them make a less noisy gradient, and a step longer. Default 0.5.
        var perRow: Double

        /// - Throws: `invalidInput` for unknown keys and values out of range.
        init(_ settings: SettingsReader) throws(AccrueError) {
            let section = try settings.section("reservoir", known: ["rows", "share", "perRow"])
            rows = try section.whole("rows", default: 0, in: 0...10_000_000)
            share = try section.number("share", default: 0.5, in: 0...1)
            perRow = try section.number("perRow", default: 0.5, in: 0.01...100)
        }

        /// 1 − s: the share of the past's say that its Gaussian has beside kept rows; all of it where there are none.
        func gaussianShare(beside kept: Reservoir) -> Double { kept.count > 0 ? 1 - share : 1 }

        /// Without rows.
        var empty: Reservoir { Reservoir(capacity: rows) }

        /// The sample of a shard's rows in a round's first sweep, which sees them all; empty in later ones.
        func offered(_ shard: [Rows], round: Round, key: RandomKey) throws(AccrueError) -> Reservoir {
            round.sweep == 0 && rows > 0 ? try Reservoir(of: shard, capacity: rows, key: key.folding("reservoir")) : empty
        }
    }

    let rows: DesignRows
    private let perRow: Double
    /// s · N.
    private let standsFor: Double
    /// s · N/n: what the mean loss of kept rows counts.
    let weight: Double
    /// 1 − s: what the Gaussian's part counts.
    let priorShare: Double

    /// Nil when there is nothing to learn again.
    init?(_ reservoir: Reservoir, _ settings: Settings, schema: Schema, design: Design, round: Round) throws(AccrueError) {
        let share = settings.share
        guard share > 0, let kept = try reservoir.rows(schema) else { return nil }
        rows = try design.rows([kept])
        perRow = settings.perRow
        standsFor = share * Double(round.rowsBefore)
        weight = standsFor / Double(round.roundRows)
        priorShare = settings.gaussianShare(beside: reservoir)
    }

    /// Shares of the classes among the kept rows.
    func shares(_ classes: Int) throws(AccrueError) -> [Double] {
        guard let targets = rows.targets else { return [Double](repeating: 0, count: classes) }
        return try LabelShift.counts(targets, classes: classes).map { $0 / Double(rows.count) }
    }

    /// A shard's part of at most `wanted` kept rows, whose order is random, and how many rows of the past each of them stands for; nil when it has none.
    func informationRows(_ wanted: Int, of round: Round) -> (numbers: Range<Int>, scale: Double)? {
        let chosen = min(wanted, rows.count)
        let numbers = chosen * round.shard / round.shards..<chosen * (round.shard + 1) / round.shards
        return numbers.isEmpty ? nil : (numbers, standsFor / Double(chosen))
    }

    /// Kept rows for one step, drawn with replacement.
    func batch(beside own: Batch, key: RandomKey) throws(AccrueError) -> Batch {
        let wanted = max(1, Int(Double(own.inputs.rowCount) * perRow))
        return try rows.batch(try key.folding("replay").uniform([wanted], dtype: .f64).doubles().map { min(rows.count - 1, Int($0 * Double(rows.count))) })
    }
}
