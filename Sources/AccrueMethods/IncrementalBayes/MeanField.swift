import AccrueBayes
import AccrueCore
import AccrueTensor
import Foundation

/// Mean-field variational inference: every weight an independent Gaussian, trained by local reparameterisation, −ELBO/n = mean −log p + KL/n.
///
/// Sweep 1: shard k fits its likelihood to the power 1/w_k against the prior; weighted differences of natural parameters are its site. Later sweeps are
/// partitioned: the prior of a shard is the posterior without its own site, and its likelihood counts once. Sites are summed in Float64 in shard order,
/// with a guard that keeps precisions positive. Exact: the sum of sites. Approximate: each fit, and for several shards the mean after the first sweep.
struct MeanField: LearningMethod {
    struct State: StoredValue {
        var mean: NamedTensors
        /// log σ.
        var logScale: NamedTensors
    }

    /// Precision λ and precision-mean η = λμ, Float64.
    struct Natural: Sendable {
        var precision: NamedTensors
        var precisionMean: NamedTensors
    }

    struct Work: StoredValue {
        var prior: Natural
        var current: State
        /// One a shard; empty before the first sweep.
        var sites: [Natural]
    }

    struct Delta: StoredValue {
        var site: Natural
    }

    let model: IncrementalModel
    private var settings: IncrementalBayes.Settings { model.settings }

    init(model: IncrementalModel) { self.model = model }

    var phases: MethodPhases { MethodPhases(scores: true, statistics: false) }

    func initialState(key: RandomKey) throws(AccrueError) -> State {
        State(mean: try model.initialWeights(key: key), logScale: try firstLogScale())
    }

    /// A posterior of this method is taken as it is; a network becomes the mean of the first prior, whose precision is its own.
    func adopt(_ imported: Safetensors, into state: State, key: RandomKey) throws(AccrueError) -> State {
        if let method = WeightsFromOutside.method(of: imported) {
            guard method == IncrementalBayes.name, imported.metadata["inference"] == "variational" else {
                throw WeightsFromOutside.strange(method, needed: "\(IncrementalBayes.name) with inference variational")
            }
            return State(
                mean: try WeightsFromOutside.weights(imported, prefix: "mean.", like: state.mean),
                logScale: try WeightsFromOutside.weights(imported, prefix: "logScale.", like: state.logScale))
        }
        return State(mean: try WeightsFromOutside.network(imported, like: state.mean, likelihood: model.likelihood), logScale: try firstLogScale())
    }

    /// Weights of new classes have the first prior, N(0, 1/P₀).
    func adapt(_ state: State, from old: Schema, key: RandomKey) throws(AccrueError) -> State {
        let first = try firstLogScale()
        return State(mean: try WeightsFromOutside.appended(state.mean, try first.zeros()), logScale: try WeightsFromOutside.appended(state.logScale, first))
    }

    /// log σ of the first prior.
    private func firstLogScale() throws(AccrueError) -> NamedTensors {
        try model.priorPrecision().map { (precision) throws(AccrueError) in try precision.log() * -0.5 }
    }

    func begin(_ state: State, round: Round, key: RandomKey) throws(AccrueError) -> Work {
        var current = state, prior = state
        if round.isFirst {
            // Version 0 holds random means to start from; the prior itself is centred at zero.
            prior.mean = try state.mean.zeros()
            let start = Foundation.log(settings.initialScale)
            current.logScale = try state.logScale.map { (scale) throws(AccrueError) in try scale.minimum(start) }
        }
        var natural = try natural(prior)
        if settings.keep < 1, !round.isFirst {
            let first = try model.priorPrecision(), keep = settings.keep
            natural.precision = try natural.precision.zip(first) { (p, first) throws(AccrueError) in try p * keep + (try first[0].cast(to: .f64) * (1 - keep)) }
            natural.precisionMean = try natural.precisionMean.map { (h) throws(AccrueError) in try h * keep }
        }
        return Work(prior: natural, current: current, sites: [])
    }

    func fit(_ work: Work, to shard: [Rows], round: Round, key: RandomKey) throws(AccrueError) -> (delta: Delta, report: FitReport) {
        let plan = try TrainingPlan(epochs: settings.epochs, batch: settings.batch, round: round)
        let isFirst = work.sites.isEmpty
        var cavity = work.prior
        if !isFirst {
            let site = work.sites[round.shard], whole = try natural(work.current)
            // A cavity as wide as the prior is the widest that makes sense.
            cavity.precision = try whole.precision.zip(site.precision, work.prior.precision) { (p, o) throws(AccrueError) in
                try (p - o[0]).maximum(try o[1] * Self.floor)
            }
            cavity.precisionMean = try whole.precisionMean.zip(site.precisionMean) { (h, o) throws(AccrueError) in try h - o[0] }
        }
        // In the first sweep the shard stands for all rows of the round.
        let rowsCounted = isFirst ? round.roundRows : round.shardRows
        let (fitted, report) = try train(work.current, prior: try state(cavity), rowsCounted: rowsCounted, plan: plan, shard: shard, round: round, key: key)
        let result = try natural(fitted)
        var site: Natural
        if isFirst {
            let weight = Double(round.shardRows) / Double(round.roundRows)
            site = try combine(result, work.prior) { (new, old) throws(AccrueError) in try (new - old) * weight }
        } else {
            let damping = settings.damping
            let moved = try combine(result, cavity) { (new, old) throws(AccrueError) in try new - old }
            site = try combine(work.sites[round.shard], moved) { (old, new) throws(AccrueError) in try old + (try (new - old) * damping) }
        }
        return (Delta(site: site), report)
    }

    func merge(_ deltas: [Weighted<Delta>], into work: Work, round: Round, key: RandomKey) throws(AccrueError) -> Work {
        var result = work
        result.sites = deltas.map(\.value.site)
        let ones = result.sites.map { _ in 1.0 }
        let sum = Natural(
            precision: try result.sites.map(\.precision).weightedSum(ones), precisionMean: try result.sites.map(\.precisionMean).weightedSum(ones))
        // The guard: where the sites would take a precision below the floor, both parameters move only as far as the floor.
        let step = try sum.precision.zip(work.prior.precision) { (change, prior) throws(AccrueError) in
            let low = try (try prior[0] + change).isBelow(try prior[0] * Self.floor)
            return try low.select(try (prior[0] * (Self.floor - 1)) / change, try .ones(change.shape, dtype: .f64))
        }
        var merged = work.prior
        merged.precision = try merged.precision.zip(sum.precision, step) { (prior, o) throws(AccrueError) in
            try (prior + (try o[0] * o[1])).clamped(1e-8...Self.precisionMax)
        }
        merged.precisionMean = try merged.precisionMean.zip(sum.precisionMean, step) { (prior, o) throws(AccrueError) in try prior + (try o[0] * o[1]) }
        result.current = try state(merged)
        return result
    }

    func score(_ state: State, on rows: Rows, key: RandomKey) throws(AccrueError) -> Score? {
        try posterior(state).score(rows, draws: settings.scoreDraws, key: key)
    }

    func finish(_ work: Work, round: Round, moments: [NoStatistics], scores: Score?, key: RandomKey) throws(AccrueError) -> State { work.current }

    func load(_ state: State) throws(AccrueError) -> any LoadedState { try posterior(state) }

    // MARK: mathematics

    private static let floor = 0.05
    private static let precisionMax = 1e8
    private static let logScaleRange = -12.0...4.0

    private func posterior(_ state: State) throws(AccrueError) -> NetworkPosterior {
        try model.posterior(
            mean: state.mean, deviation: try state.logScale.map { (scale) throws(AccrueError) in try scale.exp() }, scale: settings.drawScale ?? 1,
            inference: "variational")
    }

    private func natural(_ state: State) throws(AccrueError) -> Natural {
        let precision = try state.logScale.map { (scale) throws(AccrueError) in try (scale.cast(to: .f64) * -2).exp() }
        return Natural(
            precision: precision, precisionMean: try precision.zip(state.mean) { (p, mean) throws(AccrueError) in try p * (try mean[0].cast(to: .f64)) })
    }

    private func state(_ natural: Natural) throws(AccrueError) -> State {
        State(
            mean: try natural.precisionMean.zip(natural.precision) { (h, p) throws(AccrueError) in try (h / p[0]).cast(to: .f32) },
            logScale: try natural.precision.map { (p) throws(AccrueError) in try (p.log() * -0.5).clamped(Self.logScaleRange).cast(to: .f32) })
    }

    private func combine(_ a: Natural, _ b: Natural, _ f: (Tensor, Tensor) throws(AccrueError) -> Tensor) throws(AccrueError) -> Natural {
        Natural(
            precision: try a.precision.zip(b.precision) { (x, y) throws(AccrueError) in try f(x, y[0]) },
            precisionMean: try a.precisionMean.zip(b.precisionMean) { (x, y) throws(AccrueError) in try f(x, y[0]) })
    }

    /// Maximises the evidence bound on a shard.
    private func train(
        _ start: State, prior: State, rowsCounted: Int, plan: TrainingPlan, shard: [Rows], round: Round, key: RandomKey
    ) throws(AccrueError) -> (State, FitReport) {
        let loop = TrainingLoop(
            plan: plan, schedule: .linear(from: settings.learningRate, to: settings.learningRate * settings.finalRate, steps: plan.steps),
            averageFrom: plan.steps)
        let share = settings.temperature / Double(rowsCounted)
        let start = FactorisedGaussian(mean: start.mean, logScale: start.logScale)
        let optimiser = try FactorisedAdam(
            prior: FactorisedGaussian(mean: prior.mean, logScale: prior.logScale), share: share, logScaleRange: Self.logScaleRange)
        let outcome = try loop.run(start, optimiser, rows: try model.design.rows(shard), round: round, key: key) {
            (current, batch, stepKey) throws(AccrueError) in
            // By mean and variance; the optimiser adds the divergence's gradient.
            try model.network.noisyGradient(at: current, batch, likelihood: model.likelihood, logScaleIn: Self.logScaleRange, key: stepKey)
        }
        let result = State(
            mean: outcome.weights.mean, logScale: try outcome.weights.logScale.map { (scale) throws(AccrueError) in try scale.clamped(Self.logScaleRange) })
        return (result, outcome.report)
    }
}

// MARK: stored forms

extension MeanField.Natural {
    func trees(_ prefix: String) -> [String: NamedTensors] { ["\(prefix)precision": precision, "\(prefix)precisionMean": precisionMean] }
    init(_ stored: Safetensors, _ prefix: String) throws(AccrueError) {
        self.init(
            precision: try NamedTensors(stored, prefix: "\(prefix)precision."), precisionMean: try NamedTensors(stored, prefix: "\(prefix)precisionMean."))
    }
}

extension MeanField.State {
    var stored: Safetensors {
        StoredTrees.stored(["mean": mean, "logScale": logScale], ["method": IncrementalBayes.name, "inference": "variational"])
            .saying(roles: ["mean": .mean, "logScale": .logDeviation])
    }
    init(_ stored: Safetensors) throws(AccrueError) {
        self.init(mean: try NamedTensors(stored, prefix: "mean."), logScale: try NamedTensors(stored, prefix: "logScale."))
    }
}

extension MeanField.Work {
    var stored: Safetensors {
        var trees = prior.trees("prior.")
        trees["mean"] = current.mean
        trees["logScale"] = current.logScale
        for (index, site) in sites.enumerated() { trees.merge(site.trees("site\(index).")) { $1 } }
        return StoredTrees.stored(trees, ["sites": String(sites.count)])
    }
    init(_ stored: Safetensors) throws(AccrueError) {
        var sites: [MeanField.Natural] = []
        for index in 0..<(try StoredTrees.whole("sites", stored)) { sites.append(try MeanField.Natural(stored, "site\(index).")) }
        self.init(prior: try MeanField.Natural(stored, "prior."), current: try MeanField.State(stored), sites: sites)
    }
}

extension MeanField.Delta {
    var stored: Safetensors { StoredTrees.stored(site.trees("site.")) }
    init(_ stored: Safetensors) throws(AccrueError) { self.init(site: try MeanField.Natural(stored, "site.")) }
}
