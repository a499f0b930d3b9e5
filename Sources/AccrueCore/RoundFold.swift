public import Foundation

/// One round, done in order in one place: the definition of what a version is.
///
/// `next(_:)` is the pure function from (pipeline, last version, stretch of the log) to the next version. The daemon spreads the same steps over
/// workers and must arrive at the same bytes; `accrue run` and every replay use this one directly.
public struct RoundFold: Sendable {
    public let pipeline: PipelineDeclaration
    public let method: any OpaqueMethod

    /// What a round made, besides the state: for people and for `accrue run`'s table.
    public struct Outcome: Sendable {
        public var state: Data
        /// The round's rows scored with the version before, pooled in log order; nil if the method does not score.
        public var score: Score?
        /// One report a sweep and shard, in that order.
        public var reports: [FitReport]
        public var remarks: [Remark]
    }

    public init(pipeline: PipelineDeclaration, method: any OpaqueMethod) {
        self.pipeline = pipeline
        self.method = method
    }

    /// Version 0.
    public func initialState() throws(AccrueError) -> Data {
        try method.initialState(key: RoundKeys.initial(seed: pipeline.seed))
    }

    /// The version that an import makes.
    public func adopt(_ imported: Data, into state: Data, version: Int) throws(AccrueError) -> Data {
        try method.adopt(imported, into: state, key: RoundKeys(seed: pipeline.seed, version: version).adopt)
    }

    /// The version in which the pipeline's schema takes effect.
    public func adapt(_ state: Data, from old: Schema, version: Int) throws(AccrueError) -> Data {
        try method.adapt(state, from: old, key: RoundKeys(seed: pipeline.seed, version: version).adapt)
    }

    /// Absorbs one stretch of chunks.
    ///
    /// - Parameters:
    ///   - state: the last version's state.
    ///   - version: the number of the version to make.
    ///   - stretch: what to absorb; not empty.
    ///   - isFirst: whether nothing was learned or imported before; nil: whether this is version 1.
    ///   - rowsBefore: rows absorbed by earlier versions.
    ///   - rows: the rows of a chunk, by its position.
    /// - Throws: what the method throws.
    public func next(
        _ state: Data, version: Int, isFirst: Bool? = nil, stretch: Stretch, rowsBefore: Int, rows: (Int) throws(AccrueError) -> Rows
    ) throws(AccrueError) -> Outcome {
        let keys = RoundKeys(seed: pipeline.seed, version: version)
        let shards = stretch.shards(pipeline.shards)
        func round(sweep: Int, shard: Int? = nil) -> Round {
            let shardRows = shard.map { shards[$0].reduce(0) { $0 + $1.rows } } ?? stretch.rows
            return Round(
                index: version, isFirst: isFirst, sweep: sweep, sweeps: pipeline.sweeps, shard: shard ?? 0, shards: shards.count, shardRows: shardRows,
                roundRows: stretch.rows, rowsBefore: rowsBefore, sweepKey: keys.sweep(sweep))
        }
        func shardRows(_ shard: Int) throws(AccrueError) -> [Rows] {
            var result: [Rows] = []
            for range in shards[shard] { result.append(try rows(range.position).rows(range.firstRow..<range.firstRow + range.rows)) }
            return result
        }
        var score: Score?
        if method.phases.scores {
            for range in stretch.scoreParts {
                let part = try rows(range.position).rows(range.firstRow..<range.firstRow + range.rows)
                guard let part = try method.score(state, on: part, key: keys.score(range)) else { continue }
                score = score.map { var pooled = $0; pooled.merge(part); return pooled } ?? part
            }
        }
        var work = try method.begin(state, round: round(sweep: 0), key: keys.begin)
        var reports: [FitReport] = []
        for sweep in 0..<pipeline.sweeps {
            var deltas: [(delta: Data, rows: Int)] = []
            for shard in shards.indices {
                let here = round(sweep: sweep, shard: shard)
                let fit = try method.fit(work, to: try shardRows(shard), round: here, key: keys.fit(sweep: sweep, shard: shard))
                deltas.append((fit.delta, here.shardRows))
                reports.append(fit.report)
            }
            work = try method.merge(deltas, into: work, round: round(sweep: sweep), key: keys.merge(sweep: sweep))
        }
        let last = pipeline.sweeps - 1
        var moments: [Data] = []
        if method.phases.statistics {
            for shard in shards.indices {
                let here = round(sweep: last, shard: shard)
                if let part = try method.statistics(of: work, on: try shardRows(shard), round: here, key: keys.statistics(shard: shard)) {
                    moments.append(part)
                }
            }
        }
        let next = try method.finish(work, round: round(sweep: last), moments: moments, scores: score, key: keys.finish)
        return Outcome(state: next, score: score, reports: reports, remarks: try method.remarks(on: next))
    }
}
