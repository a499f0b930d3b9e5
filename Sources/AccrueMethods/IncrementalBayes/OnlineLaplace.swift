import AccrueBayes
import AccrueCore
import AccrueTensor

/// Online Laplace: the mean is trained without noise against the last posterior as prior, and the Fisher information of the round's rows is added to
/// the precision.
///
/// Shards minimise mean cross-entropy + (T/2n) Σ P (w − m)², n the round's rows; merged weights are row-weighted means (local SGD), optimiser moments
/// travel with them. Precision: P ← P₀ + κ(P − P₀) + λF/T, P = diag(D) + C in the form of the settings' family. The mean over the tail of a round's steps
/// becomes the posterior's mean. Exact: the Fisher sums over shards (all of F, but for `lowRank`, whose sums are exact on the diagonal,
/// and `kronecker`, whose factors' sums are). Approximate:
/// averaging weights that were trained apart, and the Laplace approximation itself.
struct OnlineLaplace: PrecisionInference {
    typealias State = PrecisionState

    struct Work: StoredValue {
        /// Prior of the round.
        var mean: NamedTensors
        var precision: NamedTensors
        var coupling: NamedTensors
        var training: AdamTraining
        /// Of the version before.
        var memory: StreamMemory
        /// Of this round's rows.
        var offered: Reservoir
    }

    struct Delta: StoredValue {
        var training: AdamTraining
        /// Rows of the shard for the reservoir; in a round's first sweep alone.
        var offered: Reservoir
    }

    /// The Fisher information diag(`sums`) + C, scaled to all rows of the shard.
    struct Fisher: StoredValue {
        var sums: NamedTensors
        var coupling: NamedTensors
        /// Rows of each class; empty without `labelShift`.
        var labelCounts: [Double]
    }

    static let inference = IncrementalBayes.Inference.laplace
    let model: IncrementalModel
    let family: any PrecisionFamily
    private var settings: IncrementalBayes.Settings { model.settings }

    /// - Throws: `limitExceeded` when the model is too large for the settings' family.
    init(model: IncrementalModel) throws(AccrueError) {
        self.model = model
        family = try model.precisionFamily()
    }

    var phases: MethodPhases { MethodPhases(scores: true, statistics: true) }

    func begin(_ state: State, round: Round, key: RandomKey) throws(AccrueError) -> Work {
        _ = try plan(round)
        let zeros = try state.mean.zeros()
        // Version 0 holds random weights to start from; the prior itself is centred at zero.
        return Work(
            mean: round.isFirst ? zeros : state.mean, precision: state.precision, coupling: state.coupling, training: try AdamTraining(from: state.mean),
            memory: state.memory, offered: settings.reservoir.empty)
    }

    func fit(_ work: Work, to shard: [Rows], round: Round, key: RandomKey) throws(AccrueError) -> (delta: Delta, report: FitReport) {
        let plan = try plan(round)
        let loop = TrainingLoop(plan: plan, learningRate: settings.learningRate, finalRate: settings.finalRate, averageTail: settings.averageTail)
        let replay = try model.replay(work.memory.reservoir, round)
        let (precision, centre) = try pull(work, share: replay?.priorShare ?? 1)
        let strength = settings.temperature / Double(round.roundRows)
        let rows = try model.design.rows(shard)
        let shift = try model.labelShift(try labelCounts(try labelCounts(rows), of: rows, beside: replay))
        func moved(_ tree: NamedTensors, by shift: NamedTensors?) throws(AccrueError) -> NamedTensors { try shift.map(tree.adding) ?? tree }
        let start = try work.training.changed { (weights) throws(AccrueError) in try moved(weights, by: shift) }
        let pull = try (centre: moved(centre, by: shift), strength: precision.map { (precision) throws(AccrueError) in try precision * strength })
        let coupledAround = try moved(work.mean, by: shift), coupledStrength = strength * (replay?.priorShare ?? 1)
        let (fitted, report) = try start.fitted(loop, pull: pull, rows: rows, round: round, key: key) { (weights, batch, stepKey) throws(AccrueError) in
            // The optimiser adds the prior's gradient as far as D goes, (T/n) D (w − m).
            let again = try replay?.batch(beside: batch, key: stepKey)
            let (value, slope) = try valueAndGradient(at: weights) { (weights) throws(AccrueError) in
                let loss = try model.loss(weights, batch)
                guard let replay, let again else { return loss }
                return try loss + (try model.loss(weights, again) * replay.weight)
            }
            return (value, round.isFirst ? slope : try adding(work.coupling, from: coupledAround, at: weights, strength: coupledStrength, to: slope))
        }
        let offered = try settings.reservoir.offered(shard, round: round, key: key)
        let back = try shift?.negated()
        return (Delta(training: try fitted.changed { (weights) throws(AccrueError) in try moved(weights, by: back) }, offered: offered), report)
    }

    func merge(_ deltas: [Weighted<Delta>], into work: Work, round: Round, key: RandomKey) throws(AccrueError) -> Work {
        var result = work
        result.training = try work.training.merged(deltas.map { Weighted($0.value.training, rows: $0.rows) })
        result.offered = work.offered.merged(with: deltas.map(\.value.offered))
        return result
    }

    func statistics(of work: Work, on shard: [Rows], round: Round, key: RandomKey) throws(AccrueError) -> Fisher? {
        let rows = try model.design.rows(shard)
        let replay = try model.replay(work.memory.reservoir, round)
        let found = work.training.result, own = settings.labelShift ? try labelCounts(rows) : []
        let weights = try model.labelShift(try labelCounts(own, of: rows, beside: replay)).map { (shift) throws(AccrueError) in try found.adding(shift) } ?? found
        var information = try fisher(at: weights, on: rows, round: round, key: key)
        if let replay, let kept = replay.informationRows(model.settings.fisherRows, of: round) {
            information = try family.sum(information, try fisher(at: weights, on: replay.rows, numbers: kept.numbers, scale: kept.scale, round: round, key: key.folding("kept")))
        }
        return Fisher(sums: information.diagonal, coupling: information.coupling, labelCounts: own)
    }

    func finish(_ work: Work, round: Round, moments: [Fisher], scores: Score?, key: RandomKey) throws(AccrueError) -> State {
        var (memory, keep) = work.memory.next(work.offered, scores: scores, round: round, settings: settings)
        for part in moments { memory.count(part.labelCounts) }
        // Kept rows have spoken for their share of the past.
        let share = keep * settings.reservoir.gaussianShare(beside: work.memory.reservoir)
        var precision = try work.precision.mixed(with: try model.priorPrecision(), keep: share)
        // A likelihood's noise is what the model leaves unexplained, and earlier ones left more: what they said of it counts for one round.
        let noise = try model.likelihood.ownWeights()
        try precision.visit { (name, tensor) throws(AccrueError) in
            if noise.contains(where: { $0.0 == name }) { tensor = try .full(tensor.shape, model.settings.priorPrecision).cast(to: .f64) }
        }
        let weight = settings.fisherScale / settings.temperature
        for part in moments {
            precision = try precision.zip(part.sums) { (sum, fisher) throws(AccrueError) in try sum + (try fisher[0].cast(to: .f64) * weight) }
        }
        // The first prior couples nothing, so of C its share stays.
        let shares = try moments.map { (part) throws(AccrueError) in try family.scaled(part.coupling, by: weight) }
        let (coupling, dropped) = try family.sum([try family.scaled(work.coupling, by: share)] + shares)
        precision = try precision.adding(dropped)
        return State(
            inference: Self.inference, mean: work.training.result,
            precision: try precision.map { (tensor) throws(AccrueError) in try tensor.clamped(State.precisionRange).cast(to: .f32) }, coupling: coupling,
            memory: memory)
    }

    /// How many rows of a shard are of each class.
    private func labelCounts(_ rows: DesignRows) throws(AccrueError) -> [Double] {
        guard let targets = rows.targets else { throw AccrueError(.invalidInput, while: "counting classes", "the rows have no targets") }
        return try LabelShift.counts(targets, classes: model.likelihood.outputs)
    }

    /// How many rows of each class the loss of a shard is of: its own, and kept rows as much as they count in it.
    private func labelCounts(_ own: [Double], of rows: DesignRows, beside replay: Replay?) throws(AccrueError) -> [Double] {
        guard let replay else { return own }
        return zip(own, try replay.shares(model.likelihood.outputs)).map { $0 + $1 * replay.weight * Double(rows.count) }
    }

    private func plan(_ round: Round) throws(AccrueError) -> TrainingPlan {
        try TrainingPlan(epochs: settings.epochs, batch: settings.batch, round: round)
    }

    /// D and its centre in the prior of a fit in which the past's Gaussian has a share of the past's say, and the first prior N(0, 1/P₀), which is no past, all
    /// of its own: share · D (w − m)² + (1 − share) · P₀ w², as one square.
    private func pull(_ work: Work, share: Double) throws(AccrueError) -> (precision: NamedTensors, centre: NamedTensors) {
        guard share < 1 else { return (work.precision, work.mean) }
        let precision = try work.precision.zip(try model.priorPrecision()) { (past, first) throws(AccrueError) in try past * share + (try first[0] * (1 - share)) }
        var centre = try work.mean.zip(work.precision) { (mean, past) throws(AccrueError) in try mean * (try past[0] * share) }
        centre = try centre.zip(precision) { (product, sum) throws(AccrueError) in try product / sum[0] }
        return (precision, centre)
    }

    /// A gradient with what C adds to the prior's: (T/n) C (w − m). The first prior has no C.
    private func adding(
        _ coupling: NamedTensors, from centre: NamedTensors, at weights: NamedTensors, strength: Double, to slope: NamedTensors
    ) throws(AccrueError) -> NamedTensors {
        guard !coupling.names.isEmpty else { return slope }
        let away = try weights.zip(centre) { (weight, mean) throws(AccrueError) in try weight - mean[0] }
        return try slope.adding(try family.product(coupling, away).map { (part) throws(AccrueError) in try part * strength })
    }
}
