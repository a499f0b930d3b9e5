import AccrueBayes
import AccrueCore
import AccrueTensor

/// Online Laplace: the mean is trained without noise against the last posterior as prior, and the Fisher information of the round's rows is added to
/// the precision.
///
/// Shards minimise mean cross-entropy + (T/2n) Σ P (w − m)², n the round's rows; merged weights are row-weighted means (local SGD), optimiser moments
/// travel with them. Precision: P ← P₀ + κ(P − P₀) + F/T, P = diag(D) + C in the form of the settings' family. The mean over the tail of a round's steps
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
        /// Where training stands.
        var weights: NamedTensors
        var first: NamedTensors
        var second: NamedTensors
        var steps: Int
        /// Mean of the weights after the round's tail so far, of `averaged` steps.
        var average: NamedTensors?
        var averaged: Int
        /// Of the version before.
        var memory: StreamMemory
        /// Of this round's rows.
        var offered: Reservoir
    }

    struct Delta: StoredValue {
        var weights: NamedTensors
        var first: NamedTensors
        var second: NamedTensors
        var steps: Int
        var average: NamedTensors?
        var averaged: Int
        /// Rows of the shard for the reservoir; in a round's first sweep alone.
        var offered: Reservoir
    }

    /// The Fisher information diag(`sums`) + C, scaled to all rows of the shard.
    struct Fisher: StoredValue {
        var sums: NamedTensors
        var coupling: NamedTensors
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
            mean: round.isFirst ? zeros : state.mean, precision: state.precision, coupling: state.coupling, weights: state.mean, first: zeros, second: zeros, steps: 0,
            average: nil, averaged: 0, memory: state.memory, offered: Reservoir(capacity: settings.reservoirRows))
    }

    func fit(_ work: Work, to shard: [Rows], round: Round, key: RandomKey) throws(AccrueError) -> (delta: Delta, report: FitReport) {
        let plan = try plan(round)
        let loop = TrainingLoop(plan: plan, learningRate: settings.learningRate, finalRate: settings.finalRate, averageTail: settings.averageTail)
        let replay = try Replay(work.memory.reservoir, share: settings.reservoirShare, schema: model.schema, design: model.design, round: round)
        let strength = settings.temperature / Double(round.roundRows) * (replay?.priorShare ?? 1)
        let pull = try work.precision.map { (precision) throws(AccrueError) in try precision * strength }
        let outcome = try loop.run(
            work.weights, Adam(first: work.first, second: work.second, steps: work.steps, pull: (centre: work.mean, strength: pull)),
            rows: try model.design.rows(shard), round: round, key: key
        ) { (weights, batch, stepKey) throws(AccrueError) in
            // The optimiser adds the prior's gradient as far as D goes, (T/n) D (w − m).
            let again = try replay?.batch(beside: batch, key: stepKey)
            let (value, slope) = try valueAndGradient(at: weights) { (weights) throws(AccrueError) in
                let loss = try model.loss(weights, batch)
                guard let replay, let again else { return loss }
                return try loss + (try model.loss(weights, again) * replay.weight)
            }
            return (value, round.isFirst ? slope : try adding(work, at: weights, strength: strength, to: slope))
        }
        let offered = round.sweep == 0 && settings.reservoirRows > 0
            ? try Reservoir(of: shard, capacity: settings.reservoirRows, key: key.folding("reservoir")) : Reservoir(capacity: settings.reservoirRows)
        let delta = Delta(
            weights: outcome.weights, first: outcome.optimiser.first, second: outcome.optimiser.second, steps: outcome.optimiser.steps,
            average: outcome.average, averaged: outcome.averaged, offered: offered)
        return (delta, outcome.report)
    }

    func merge(_ deltas: [Weighted<Delta>], into work: Work, round: Round, key: RandomKey) throws(AccrueError) -> Work {
        var result = work
        result.weights = try deltas.map { Weighted($0.value.weights, rows: $0.rows) }.mean()
        result.first = try deltas.map { Weighted($0.value.first, rows: $0.rows) }.mean()
        result.second = try deltas.map { Weighted($0.value.second, rows: $0.rows) }.mean()
        result.steps = deltas.first?.value.steps ?? work.steps
        result.offered = work.offered.merged(with: deltas.map(\.value.offered))
        let parts = deltas.compactMap { delta in delta.value.average.map { Weighted($0, rows: delta.rows) } }
        if parts.count == deltas.count, let averaged = deltas.first?.value.averaged {
            // All shards take the same steps, so all averages are of equally many.
            result.average = try parts.tailMean(of: averaged, after: work.average, of: work.averaged)
            result.averaged = work.averaged + averaged
        }
        return result
    }

    func statistics(of work: Work, on shard: [Rows], round: Round, key: RandomKey) throws(AccrueError) -> Fisher? {
        let information = try fisher(at: work.average ?? work.weights, on: try model.design.rows(shard), round: round, key: key)
        return Fisher(sums: information.diagonal, coupling: information.coupling)
    }

    func finish(_ work: Work, round: Round, moments: [Fisher], scores: Score?, key: RandomKey) throws(AccrueError) -> State {
        let (memory, keep) = work.memory.next(work.offered, scores: scores, round: round, settings: settings)
        var precision = try work.precision.mixed(with: try model.priorPrecision(), keep: keep)
        for part in moments {
            precision = try precision.zip(part.sums) { (sum, fisher) throws(AccrueError) in try sum + (try fisher[0].cast(to: .f64) * (1 / settings.temperature)) }
        }
        // The first prior couples nothing, so of C its share κ stays.
        let shares = try moments.map { (part) throws(AccrueError) in try family.scaled(part.coupling, by: 1 / settings.temperature) }
        let (coupling, dropped) = try family.sum([try family.scaled(work.coupling, by: keep)] + shares)
        precision = try precision.adding(dropped)
        return State(
            inference: Self.inference, mean: work.average ?? work.weights,
            precision: try precision.map { (tensor) throws(AccrueError) in try tensor.clamped(State.precisionRange).cast(to: .f32) }, coupling: coupling,
            memory: memory)
    }

    private func plan(_ round: Round) throws(AccrueError) -> TrainingPlan {
        try TrainingPlan(epochs: settings.epochs, batch: settings.batch, round: round)
    }

    /// A gradient with what C adds to the prior's: (T/n) C (w − m). The first prior has no C.
    private func adding(_ work: Work, at weights: NamedTensors, strength: Double, to slope: NamedTensors) throws(AccrueError) -> NamedTensors {
        guard !work.coupling.names.isEmpty else { return slope }
        let away = try weights.zip(work.mean) { (weight, mean) throws(AccrueError) in try weight - mean[0] }
        return try slope.adding(try family.product(work.coupling, away).map { (part) throws(AccrueError) in try part * strength })
    }
}
