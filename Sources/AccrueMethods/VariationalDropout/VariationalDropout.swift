public import AccrueBayes
public import AccrueCore
import AccrueTensor
import Foundation

/// Automatic relevance determination for networks, and sparse variational dropout: every weight is a Gaussian N(μ, σ²) under a prior of its own that the data
/// fit; weights whose noise drowns their mean, log α = log σ²/μ² ≥ 3, are switched off.
///
/// Maximises the evidence bound: mean −log p + (1/n) Σ (β penalty + ½ λ(μ² + σ²) − ημ). The prior is never carried from one part of the data to the next, or it
/// would count what it was fitted to twice; what earlier parts said is: as quadratic sites (λ, η) of the likelihood, weight by weight, under which the
/// prior is fitted anew for the whole. After a round λ += curvature of the round's loss (at least 0), η += (that curvature) μ − gradient by μ.
/// With `reservoir` some of the rows so far are learned again beside a round's own, and the sites count less by as much (see `Replay`).
/// Biases are Gaussians with the prior N(0, 1), so that parts add up for them too; published recipes have them as plain numbers.
///
/// Sources: Kharitonov, Molchanov & Vetrov, "Variational Dropout via Empirical Bayes" (2018, arXiv 1811.00596): the penalty ½ log(1 + μ²/σ²); Molchanov,
/// Ashukha & Vetrov (2017, arXiv 1701.05369): the log-uniform prior's. The sites are this project's. Which estimator of the hierarchical prior
/// the first paper used, and its tables of results, are not known here.
///
/// Exact in the merge: the sites (sums over shards), and with `closedForm` the posterior of linear models with orthogonal inputs, in one sweep. Not exact: shards
/// train from common weights towards the whole round's bound, prior and sites counted once, and row-weighted means of μ and of σ² are taken, so a dead weight
/// neither wins nor loses by its width; the mask is that of the merged weights.
public struct VariationalDropout: LearningMethod {
    public static let name = "VariationalDropout"

    public struct State: StoredValue {
        var mean: NamedTensors
        /// log σ.
        var logScale: NamedTensors
        /// λ and η of all rows so far.
        var sites: QuadraticSites<NamedTensors>
        /// Rows that the sites are of; 0 before the first round.
        var rows: Int
        /// Some of those rows, learned again with the next.
        var reservoir: Reservoir
    }

    /// A round in progress.
    public struct Work: StoredValue {
        /// Where training stands; its moments, and the steps that made them.
        var current: FactorisedGaussian<NamedTensors>
        var first: FactorisedGaussian<NamedTensors>
        var second: FactorisedGaussian<NamedTensors>
        var steps: Int
        /// Of the rounds before.
        var sites: QuadraticSites<NamedTensors>
        var rows: Int
        var reservoir: Reservoir
        /// This round's rows for it, so far.
        var offered: Reservoir
    }

    /// Where a shard's training came to.
    public struct Delta: StoredValue {
        var current: FactorisedGaussian<NamedTensors>
        var first: FactorisedGaussian<NamedTensors>
        var second: FactorisedGaussian<NamedTensors>
        var steps: Int
        /// Rows of the shard for the reservoir; in a round's first sweep alone.
        var offered: Reservoir
    }

    /// The sites of a shard's rows.
    public struct Sites: StoredValue {
        var sites: QuadraticSites<NamedTensors>
    }

    let settings: Settings
    let schema: Schema
    let network: Network
    let design: Design

    /// - Throws: `invalidInput` when the settings or the schema do not fit.
    public init(settings: Settings, schema: Schema) throws(AccrueError) {
        self.settings = settings
        self.schema = schema
        network = try settings.model.network(inputShape: Design.inputShape(schema), outputs: settings.likelihood.outputs)
        design = try Design(schema: schema, network: network, likelihood: settings.likelihood)
    }

    /// - Throws: `invalidInput` when the settings or the schema do not fit.
    public static func make(_ value: JSONValue, _ schema: Schema) throws(AccrueError) -> any OpaqueMethod {
        ErasedMethod(try VariationalDropout(settings: try Settings(value, schema: schema), schema: schema))
    }

    public var phases: MethodPhases { MethodPhases(scores: true, statistics: true) }

    public func initialState(key: RandomKey) throws(AccrueError) -> State { try state(mean: try initialMean(key: key)) }

    /// A posterior of this method is taken as it is; the means of another method's, or a bare network, become means whose width is the first one and of which nothing
    /// has been said yet.
    public func adopt(_ imported: Safetensors, into state: State, key: RandomKey) throws(AccrueError) -> State {
        if WeightsFromOutside.method(of: imported) == Self.name {
            func tree(_ prefix: String) throws(AccrueError) -> NamedTensors { try WeightsFromOutside.weights(imported, prefix: prefix, like: state.mean) }
            return State(
                mean: try tree("mean."), logScale: try tree("logScale."),
                sites: QuadraticSites(precision: try tree("sitePrecision."), precisionMean: try tree("sitePrecisionMean.")), rows: try StoredTrees.whole("rows", imported),
                reservoir: try Reservoir(imported, capacity: settings.reservoir.rows).merged(with: []))
        }
        let means = try WeightsFromOutside.means(imported)
        return try self.state(mean: try WeightsFromOutside.network(means, like: state.mean, likelihood: settings.likelihood))
    }

    /// Weights of new classes have mean 0 and the first width, and nothing has been said of them.
    public func adapt(_ state: State, from old: Schema, key: RandomKey) throws(AccrueError) -> State {
        let zeros = try initialMean(key: key).zeros(), fresh = try self.state(mean: zeros)
        return State(
            mean: try WeightsFromOutside.appended(state.mean, zeros), logScale: try WeightsFromOutside.appended(state.logScale, fresh.logScale),
            sites: QuadraticSites(
                precision: try WeightsFromOutside.appended(state.sites.precision, zeros),
                precisionMean: try WeightsFromOutside.appended(state.sites.precisionMean, zeros)), rows: state.rows, reservoir: state.reservoir)
    }

    public func begin(_ state: State, round: Round, key: RandomKey) throws(AccrueError) -> Work {
        _ = try plan(round)
        let current = FactorisedGaussian(mean: state.mean, logScale: state.logScale), zeros = try current.zeros()
        var sites = state.sites
        if settings.keep < 1 { sites = try sites.scaled(by: settings.keep) }
        return Work(
            current: current, first: zeros, second: zeros, steps: 0, sites: sites, rows: state.rows, reservoir: state.reservoir,
            offered: settings.reservoir.empty)
    }

    public func fit(_ work: Work, to shard: [Rows], round: Round, key: RandomKey) throws(AccrueError) -> (delta: Delta, report: FitReport) {
        let plan = try plan(round)
        func step(_ share: Double) -> Int { Int((Double(plan.steps) * share).rounded()) }
        let loop = TrainingLoop(
            plan: plan,
            schedule: .held(settings.learningRate, to: settings.learningRate * settings.finalRate, start: step(settings.decayFrom), steps: plan.steps),
            averageFrom: plan.steps)
        let full = settings.warmUpRows == 0 ? 1 : min(1, Double(work.rows + round.roundRows) / Double(settings.warmUpRows))
        let replay = try replay(work, round)
        // Sites hold a network in place from the start; without them the penalty would kill layers before they have learned anything.
        let optimiser = SparseAdam(
            first: work.first, second: work.second, steps: work.steps, penalties: penalties, sites: work.rows > 0 ? try work.sites.scaled(by: replay?.priorShare ?? 1) : nil,
            share: 1 / Double(round.roundRows), weight: work.rows > 0 ? .constant(full) : .ramp(to: full, start: step(settings.warmUpFrom), end: step(settings.warmUpTo)),
            logScaleRange: Self.logScaleRange)
        let outcome = try loop.run(work.current, optimiser, rows: try design.rows(shard), round: round, key: key) {
            (current, batch, stepKey) throws(AccrueError) in
            let own = try network.noisyGradient(at: current, batch, likelihood: settings.likelihood, logScaleIn: Self.logScaleRange, key: stepKey)
            guard let replay else { return own }
            let again = try network.noisyGradient(
                at: current, try replay.batch(beside: batch, key: stepKey), likelihood: settings.likelihood, logScaleIn: Self.logScaleRange, key: stepKey.folding("again"))
            return (try own.value + (try again.value * replay.weight), try own.gradient.zip(again.gradient) { (a, b) throws(AccrueError) in try a + (try b[0] * replay.weight) })
        }
        var fitted = outcome.weights
        fitted.logScale = try fitted.logScale.map { (scale) throws(AccrueError) in try scale.clamped(Self.logScaleRange) }
        var report = outcome.report
        report.figures["kept"] = Double(try sparsity(mean: fitted.mean, logScale: fitted.logScale).kept)
        let offered = try settings.reservoir.offered(shard, round: round, key: key)
        return (
            Delta(current: fitted, first: outcome.optimiser.first, second: outcome.optimiser.second, steps: outcome.optimiser.steps, offered: offered), report
        )
    }

    public func merge(_ deltas: [Weighted<Delta>], into work: Work, round: Round, key: RandomKey) throws(AccrueError) -> Work {
        var result = work
        func mean(_ part: (Delta) -> NamedTensors) throws(AccrueError) -> NamedTensors { try deltas.map { Weighted(part($0.value), rows: $0.rows) }.mean() }
        result.current.mean = try mean(\.current.mean)
        if deltas.count == 1 {
            result.current.logScale = deltas[0].value.current.logScale
        } else {
            var variances: [Weighted<NamedTensors>] = []
            for delta in deltas {
                variances.append(Weighted(try delta.value.current.logScale.map { (scale) throws(AccrueError) in try (scale * 2).exp() }, rows: delta.rows))
            }
            result.current.logScale = try variances.mean().map { (variance) throws(AccrueError) in try (variance.log() * 0.5).clamped(Self.logScaleRange) }
        }
        result.first = FactorisedGaussian(mean: try mean(\.first.mean), logScale: try mean(\.first.logScale))
        result.second = FactorisedGaussian(mean: try mean(\.second.mean), logScale: try mean(\.second.logScale))
        result.steps = deltas.first?.value.steps ?? work.steps
        result.offered = work.offered.merged(with: deltas.map(\.value.offered))
        return result
    }

    public func statistics(of work: Work, on shard: [Rows], round: Round, key: RandomKey) throws(AccrueError) -> Sites? {
        let own = try sites(at: work.current, of: try design.rows(shard), round: round, key: key)
        guard let replay = try replay(work, round), let kept = try sites(at: work.current, of: replay, round: round, key: key.folding("kept")) else { return Sites(sites: own) }
        return Sites(sites: try .sum([own, kept]))
    }

    public func score(_ state: State, on rows: Rows, key: RandomKey) throws(AccrueError) -> Score? { try posterior(state).score(rows, draws: nil, key: key) }

    public func finish(_ work: Work, round: Round, moments: [Sites], scores: Score?, key: RandomKey) throws(AccrueError) -> State {
        // Kept rows have spoken for their share of the past.
        let past = try work.sites.scaled(by: settings.reservoir.gaussianShare(beside: work.reservoir))
        let sites = try QuadraticSites.sum([past] + moments.map(\.sites))
        var state = State(
            mean: work.current.mean, logScale: work.current.logScale, sites: sites, rows: work.rows + round.roundRows,
            reservoir: work.reservoir.merged(with: [work.offered]))
        if settings.closedForm { try solve(&state) }
        return state
    }

    /// Names layers without any weight left.
    public func remarks(on state: State) throws(AccrueError) -> [Remark] {
        guard state.rows > 0 else { return [] }
        return try sparsity(state).layers.filter { $0.kept == 0 }.map {
            Remark(kind: .collapse, text: "all \($0.weights) weights of layer '\($0.name)' are switched off: lower settings.initialScale, or lengthen settings.warmUp")
        }
    }

    public func load(_ state: State) throws(AccrueError) -> any LoadedState { try posterior(state) }

    // MARK: mathematics

    static let logScaleRange = -12.0...4.0
    /// Variance that a dead weight keeps at least where its best width is none, so that its log α is far above any threshold.
    private static let deadVariance = 1e-4

    private func plan(_ round: Round) throws(AccrueError) -> TrainingPlan { try TrainingPlan(epochs: settings.epochs, batch: settings.batch, round: round) }

    private func replay(_ work: Work, _ round: Round) throws(AccrueError) -> Replay? {
        try Replay(work.reservoir, settings.reservoir, schema: schema, design: design, round: round)
    }

    private func initialMean(key: RandomKey) throws(AccrueError) -> NamedTensors {
        try network.initialWeights(with: settings.likelihood, key: key)
    }

    /// Of the first width, with nothing said yet.
    private func state(mean: NamedTensors) throws(AccrueError) -> State {
        let zeros = try mean.zeros(), start = Foundation.log(settings.initialScale)
        return State(
            mean: mean, logScale: try mean.map { (tensor) throws(AccrueError) in try .full(tensor.shape, start) },
            sites: QuadraticSites(precision: zeros, precisionMean: zeros), rows: 0, reservoir: settings.reservoir.empty)
    }

    private var penalties: [String: WeightPenalty] {
        var result: [String: WeightPenalty] = [Likelihood.logVariance: .gaussian(precision: 1)]
        for layer in network.affineLayers {
            result[layer.weight] = settings.penalty.weightPenalty(layer.weightShape, sharedOver: settings.shared(layer))
            result[layer.bias] = .gaussian(precision: 1)
        }
        return result
    }

    /// Every weight by itself where its sites and its prior are best.
    private func solve(_ state: inout State) throws(AccrueError) {
        let weights = Set(network.affineLayers.map(\.weight))
        var means: [(String, Tensor)] = [], scales: [(String, Tensor)] = []
        for (name, tensor) in state.mean.tensors {
            let precision = try state.sites.precision.tensor(name).doubles(), precisionMean = try state.sites.precisionMean.tensor(name).doubles()
            var mean: [Float] = [], scale: [Float] = []
            for (lambda, eta) in zip(precision, precisionMean) {
                let q: (mean: Double, variance: Double)
                if weights.contains(name) {
                    q = SiteOptimum.of(precision: lambda, precisionMean: eta, settings.penalty) ?? (0, max(Self.deadVariance, 1 / max(lambda, 1)))
                } else {
                    q = (eta / (lambda + 1), 1 / (lambda + 1))
                }
                mean.append(Float(q.mean))
                scale.append(Float(min(Self.logScaleRange.upperBound, max(Self.logScaleRange.lowerBound, 0.5 * Foundation.log(q.variance)))))
            }
            means.append((name, try Tensor(mean, shape: tensor.shape)))
            scales.append((name, try Tensor(scale, shape: tensor.shape)))
        }
        state.mean = NamedTensors(means)
        state.logScale = NamedTensors(scales)
    }
}
