import AccrueBayes
import AccrueCore
import AccrueTensor

/// Natural-gradient variational inference: every weight an independent Gaussian N(m, P⁻¹), trained on E_q[mean −log p] + (T/n) KL(q ‖ prior) by online Newton
/// steps, each one forward and one backward pass at weights drawn from q; the prior is the last posterior.
///
/// With δ = T P₀/n, P₀ the round's prior precision (κ of the last one, the rest is the first prior's; the prior's mean is the last one's), the precision is
/// P = (n/T)(h + δ), where h estimates a row's expected Hessian. A round starts h at the Fisher information of some of its rows at the last mean (the first
/// round: at its random weights, or at `initialHessian`); steps move it by the reparameterisation estimate. Means and precisions are averaged separately over
/// the round's tail.
///
/// Merging: means, momentum and h by rows, after each sweep. Each shard's h_k estimates a row of its own, so what shards find adds: P = P₀ + Σ_k n_k h_k / T.
/// Exact: that sum, given the h_k (where the Hessian is constant, as in linear-Gaussian models, they estimate the diagonal of the exact precision without a
/// bias), and steps that are merged one by one. Approximate: several steps between merges (local SGD), and the small rise of h that keeps it positive.
///
/// Source: see `OnlineNewton`. Rounds, shards, κ, T and where h starts are this project's.
struct NaturalGradient: PrecisionInference {
    typealias State = PrecisionState

    struct Work: StoredValue {
        /// m₀ and the last precision, of which the prior's is mixed.
        var centre: NamedTensors
        var precision: NamedTensors
        /// Where training stands; h is nil before the first sweep.
        var mean: NamedTensors
        var hessian: NamedTensors?
        var momentum: NamedTensors
        var steps: Int
        /// Means over the round's tail so far, of `averaged` steps.
        var averageMean: NamedTensors?
        var averageHessian: NamedTensors?
        var averaged: Int
        /// Of the version before.
        var memory: StreamMemory
    }

    struct Delta: StoredValue {
        var mean: NamedTensors
        var hessian: NamedTensors
        var momentum: NamedTensors
        var steps: Int
        var averageMean: NamedTensors?
        var averageHessian: NamedTensors?
        var averaged: Int
    }

    static let inference = IncrementalBayes.Inference.naturalGradient
    let model: IncrementalModel
    let family: any PrecisionFamily
    private var settings: IncrementalBayes.Settings { model.settings }

    init(model: IncrementalModel) {
        self.model = model
        family = DiagonalFamily(model: model)
    }

    var phases: MethodPhases { MethodPhases(scores: true, statistics: false) }

    func begin(_ state: State, round: Round, key: RandomKey) throws(AccrueError) -> Work {
        _ = try plan(round)
        let zeros = try state.mean.zeros()
        // Version 0 holds random weights to start from; the prior itself is centred at zero.
        return Work(
            centre: round.isFirst ? zeros : state.mean, precision: state.precision, mean: state.mean, hessian: nil, momentum: zeros, steps: 0, averageMean: nil,
            averageHessian: nil, averaged: 0, memory: state.memory)
    }

    func fit(_ work: Work, to shard: [Rows], round: Round, key: RandomKey) throws(AccrueError) -> (delta: Delta, report: FitReport) {
        let plan = try plan(round)
        let loop = TrainingLoop(plan: plan, learningRate: settings.learningRate, finalRate: settings.finalRate, averageTail: settings.averageTail)
        let rows = try model.design.rows(shard), count = count(round)
        let damping = try work.precision.mixed(with: try model.priorPrecision(), keep: settings.keep).map { (precision) throws(AccrueError) in
            try (precision * (1 / count)).cast(to: .f32)
        }
        let start = HessianGaussian(mean: work.mean, hessian: try hessian(work, rows, round: round, key: key.folding("fisher")))
        let constants = OnlineNewtonSettings(
            beta1: settings.momentum, beta2: hessianMomentum(plan), count: count, floor: Self.floor, longest: settings.stepMax / settings.learningRate)
        let newton = OnlineNewton(
            start, momentum: work.momentum, steps: work.steps, prior: (work.centre, damping), settings: constants, key: key.folding("draws"))
        let outcome = try loop.run(try newton.draw(), newton, rows: rows, round: round, key: key) { (weights, batch, _) throws(AccrueError) in
            try valueAndGradient(at: weights) { (weights) throws(AccrueError) in try model.loss(weights, batch) }
        }
        let q = outcome.optimiser.posterior
        guard try q.isFinite() else {
            throw AccrueError(
                .diverged, while: "fitting shard \(round.shard) of version \(round.index)", "means or precisions are not finite",
                hint: "lower the learning rate")
        }
        let delta = Delta(
            mean: q.mean, hessian: q.hessian, momentum: outcome.optimiser.momentum, steps: outcome.optimiser.steps, averageMean: outcome.average?.mean,
            averageHessian: outcome.average?.hessian, averaged: outcome.averaged)
        return (delta, outcome.report)
    }

    func merge(_ deltas: [Weighted<Delta>], into work: Work, round: Round, key: RandomKey) throws(AccrueError) -> Work {
        func byRows(_ part: (Delta) -> NamedTensors?) -> [Weighted<NamedTensors>] {
            deltas.compactMap { delta in part(delta.value).map { Weighted($0, rows: delta.rows) } }
        }
        var result = work
        result.mean = try byRows(\.mean).mean()
        result.hessian = try byRows(\.hessian).mean()
        result.momentum = try byRows(\.momentum).mean()
        // All shards take the same steps, so all averages are of equally many.
        guard let first = deltas.first?.value else { return result }
        result.steps = first.steps
        guard first.averaged > 0 else { return result }
        result.averageMean = try byRows(\.averageMean).tailMean(of: first.averaged, after: work.averageMean, of: work.averaged)
        result.averageHessian = try byRows(\.averageHessian).tailMean(of: first.averaged, after: work.averageHessian, of: work.averaged)
        result.averaged = work.averaged + first.averaged
        return result
    }

    func finish(_ work: Work, round: Round, moments: [NoStatistics], scores: Score?, key: RandomKey) throws(AccrueError) -> State {
        let (memory, keep) = work.memory.next(Reservoir(capacity: 0), scores: scores, round: round, settings: settings)
        guard let hessian = work.averageHessian ?? work.hessian else {
            throw AccrueError(
                .corrupt, while: "making a version", "the round's work says nothing of a Hessian", hint: "these bytes are of work that was not fitted")
        }
        // Rows that tell of a drift let less of the past stay than training did; as in training, no precision falls below its floor.
        let prior = try work.precision.mixed(with: try model.priorPrecision(), keep: keep), count = count(round)
        let precision = try prior.zip(hessian) { (prior, hessian) throws(AccrueError) in
            let whole = try (prior + (try hessian[0].cast(to: .f64) * count)).maximum(try prior * Self.floor)
            return try whole.clamped(State.precisionRange).cast(to: .f32)
        }
        return State(inference: Self.inference, mean: work.averageMean ?? work.mean, precision: precision, coupling: try family.none(), memory: memory)
    }

    // MARK: mathematics

    /// ε: no precision falls below this share of its prior's.
    private static let floor = 0.05
    /// What the rise of h that keeps it positive comes to at most, as a share: see `hessianMomentum`.
    private static let rise = 0.025

    /// n/T.
    private func count(_ round: Round) -> Double { Double(round.roundRows) / settings.temperature }

    private func plan(_ round: Round) throws(AccrueError) -> TrainingPlan {
        try TrainingPlan(epochs: settings.epochs, batch: settings.batch, round: round)
    }

    /// β₂. A step's estimate of a Hessian h from B rows has variance h (h + δ) n / BT, which raises h by about (1 − β₂) n / 2BT of itself: unless it is set, β₂
    /// keeps that to a fortieth. h then remembers 20/T passes over the rows.
    private func hessianMomentum(_ plan: TrainingPlan) -> Double {
        settings.hessianMomentum ?? 1 - min(0.1, 2 * Self.rise * settings.temperature / Double(plan.stepsPerEpoch))
    }

    /// h before a sweep's first step.
    private func hessian(_ work: Work, _ rows: DesignRows, round: Round, key: RandomKey) throws(AccrueError) -> NamedTensors {
        if let hessian = work.hessian { return hessian }
        if round.isFirst, let number = settings.initialHessian { return try work.mean.map { (mean) throws(AccrueError) in try .full(mean.shape, number) } }
        let share = 1 / Double(rows.count)
        return try fisher(at: work.mean, on: rows, round: round, key: key).diagonal.map { (sum) throws(AccrueError) in try sum * share }
    }
}
