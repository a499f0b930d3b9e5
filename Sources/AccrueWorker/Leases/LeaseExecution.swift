public import AccrueCore
public import AccrueWire
public import Foundation

/// The bytes that a lease needs, gathered before it is worked on.
public struct LeaseInputs: Sendable {
    /// The last version's state.
    public var base: Data?
    /// The work after the last merged sweep; nil in sweep 0.
    public var work: Data?
    /// One for each of the task's row ranges, cut to it.
    public var rows: [Rows]
    /// One for each of the task's parts.
    public var parts: [Data]
    /// What is imported.
    public var imported: Data?
    public init(base: Data? = nil, imported: Data? = nil, work: Data? = nil, rows: [Rows] = [], parts: [Data] = []) {
        self.base = base
        self.imported = imported
        self.work = work
        self.rows = rows
        self.parts = parts
    }
}

/// One leased piece of a round, done: the same step, with the same key, that `RoundFold` takes in one process.
public struct LeaseExecution: Sendable {
    /// What a lease makes.
    public struct Product: Equatable, Sendable {
        /// The state, work, delta or moments.
        public var blob: Data?
        public var kind: BlobPut.Kind?
        public var score: Score?
        public var report: FitReport?
        public var phases: MethodPhases?
        public var remarks: [Remark]?
    }

    public let method: any OpaqueMethod
    public let task: LeaseTask
    public let shouldStop: @Sendable () -> Bool

    /// - Parameter shouldStop: asked by the method at each step.
    public init(method: any OpaqueMethod, task: LeaseTask, shouldStop: @escaping @Sendable () -> Bool = { false }) {
        self.method = method
        self.task = task
        self.shouldStop = shouldStop
    }

    /// Whether everything is there that the phase needs; `perform` asks it too.
    /// - Throws: `invalidInput` naming what is missing.
    public func check(_ inputs: LeaseInputs) throws(AccrueError) {
        let phase = task.identity.phase
        switch phase {
        case .initial: return
        case .score, .adopt, .adapt, .check: if inputs.base == nil { throw incomplete("the last version's state") }
        case .fit, .merge: if inputs.work == nil, inputs.base == nil { throw incomplete("the last version's state or the merged work") }
        case .statistics, .finish: if inputs.work == nil { throw incomplete("the merged work") }
        }
        if task.imported != nil, inputs.imported == nil { throw incomplete("what is imported") }
        if phase == .score || phase == .fit || phase == .statistics, inputs.rows.isEmpty || inputs.rows.count != task.rows.count { throw incomplete("its rows") }
        if inputs.parts.count != task.parts.count || (phase == .merge && inputs.parts.count != task.shards) { throw incomplete("one part a shard") }
    }

    /// - Throws: what the method throws; its `position` is set when all rows are of one chunk. `invalidInput` when the task or its inputs are incomplete.
    public func perform(_ inputs: LeaseInputs) throws(AccrueError) -> Product {
        try check(inputs)
        do { return try step(inputs) } catch {
            var error = error
            let positions = Set(task.rows.map(\.position))
            if error.position == nil, positions.count == 1 { error.position = positions.first }
            throw error
        }
    }

    private func step(_ inputs: LeaseInputs) throws(AccrueError) -> Product {
        let pipeline = task.declaration
        let identity = task.identity
        let keys = RoundKeys(seed: pipeline.seed, version: identity.version)
        let last = pipeline.sweeps - 1
        switch identity.phase {
        case .initial:
            let state = try method.initialState(key: RoundKeys.initial(seed: pipeline.seed))
            return Product(blob: state, kind: .state, phases: method.phases)
        case .adopt, .adapt: return Product(blob: try changed(inputs, keys), kind: .state)
        case .check:
            _ = try changed(inputs, keys)
            return Product()
        case .score:
            guard let rows = inputs.rows.first, let range = task.rows.first else { throw incomplete("its rows") }
            return Product(score: try method.score(try base(inputs), on: rows, key: keys.score(range)))
        case .fit:
            let work = try work(inputs, keys)
            let here = round(sweep: identity.sweep, keys, shard: identity.shard)
            let fit = try method.fit(work, to: inputs.rows, round: here, key: keys.fit(sweep: identity.sweep, shard: identity.shard))
            return Product(blob: fit.delta, kind: .delta, report: fit.report)
        case .merge:
            let deltas = zip(inputs.parts, task.parts).map { (delta: $0, rows: $1.rows) }
            let here = round(sweep: identity.sweep, keys)
            return Product(blob: try method.merge(deltas, into: try work(inputs, keys), round: here, key: keys.merge(sweep: identity.sweep)), kind: .work)
        case .statistics:
            guard let work = inputs.work else { throw incomplete("the merged work") }
            let here = round(sweep: last, keys, shard: identity.shard)
            let moments = try method.statistics(of: work, on: inputs.rows, round: here, key: keys.statistics(shard: identity.shard))
            return Product(blob: moments, kind: moments == nil ? nil : .moments)
        case .finish:
            guard let work = inputs.work else { throw incomplete("the merged work") }
            let state = try method.finish(work, round: round(sweep: last, keys), moments: inputs.parts, scores: task.score, key: keys.finish)
            let remarks = try method.remarks(on: state)
            return Product(blob: state, kind: .state, remarks: remarks.isEmpty ? nil : remarks)
        }
    }

    /// The state of a version that reads no rows.
    private func changed(_ inputs: LeaseInputs, _ keys: RoundKeys) throws(AccrueError) -> Data {
        let base = try base(inputs)
        if let imported = inputs.imported { return try method.adopt(imported, into: base, key: keys.adopt) }
        guard let from = task.from else { throw incomplete("what is imported, or the schema before") }
        return try method.adapt(base, from: from, key: keys.adapt)
    }

    private func round(sweep: Int, _ keys: RoundKeys, shard: Int? = nil) -> Round {
        Round(
            index: task.identity.version, isFirst: task.isFirst, sweep: sweep, sweeps: task.declaration.sweeps, shard: shard ?? 0, shards: task.shards,
            shardRows: shard == nil ? task.roundRows : task.rows.reduce(0) { $0 + $1.rows }, roundRows: task.roundRows, rowsBefore: task.rowsBefore,
            sweepKey: keys.sweep(sweep), shouldStop: shouldStop)
    }

    private func base(_ inputs: LeaseInputs) throws(AccrueError) -> Data {
        guard let base = inputs.base else { throw incomplete("the last version's state") }
        return base
    }

    /// The work to go on from: before the first merge every worker derives it from the last version, which gives the same bytes everywhere.
    private func work(_ inputs: LeaseInputs, _ keys: RoundKeys) throws(AccrueError) -> Data {
        if let work = inputs.work { return work }
        return try method.begin(try base(inputs), round: round(sweep: 0, keys), key: keys.begin)
    }

    private func incomplete(_ what: String) -> AccrueError {
        let identity = task.identity
        return AccrueError(
            .invalidInput, while: "\(identity.phase.rawValue) of version \(identity.version) of pipeline '\(identity.pipeline)'", "the lease came without \(what)",
            hint: "use the same release of Accrue everywhere")
    }
}
