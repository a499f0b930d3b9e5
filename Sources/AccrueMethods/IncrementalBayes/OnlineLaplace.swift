import AccrueBayes
import AccrueCore
import AccrueTensor
import Foundation

/// Online Laplace: the mean is trained without noise against the last posterior as prior, and the Fisher information of the round's rows is added to
/// the precision.
///
/// Shards minimise mean cross-entropy + (T/2n) Σ P (w − m)², n the round's rows; merged weights are row-weighted means (local SGD), optimiser moments
/// travel with them. Precision: P ← P₀ + κ(P − P₀) + F/T, P = diag(D) + C in the form of the settings' family. The mean over the tail of a round's steps
/// becomes the posterior's mean. Exact: the Fisher sums over shards (all of F, but for `lowRank`, whose sums are exact on the diagonal,
/// and `kronecker`, whose factors' sums are). Approximate:
/// averaging weights that were trained apart, and the Laplace approximation itself.
struct OnlineLaplace: LearningMethod {
    struct State: StoredValue {
        var mean: NamedTensors
        /// D.
        var precision: NamedTensors
        /// C; empty for independent weights.
        var coupling: NamedTensors
        var memory: StreamMemory
    }

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

    let model: IncrementalModel
    private let family: any PrecisionFamily
    private var settings: IncrementalBayes.Settings { model.settings }

    /// - Throws: `limitExceeded` when the model is too large for the settings' family.
    init(model: IncrementalModel) throws(AccrueError) {
        self.model = model
        family = try model.precisionFamily()
    }

    var phases: MethodPhases { MethodPhases(scores: true, statistics: true) }

    func initialState(key: RandomKey) throws(AccrueError) -> State {
        State(mean: try model.initialWeights(key: key), precision: try model.priorPrecision(), coupling: try family.none(), memory: StreamMemory(settings))
    }

    /// A posterior of this method is taken as it is; a network becomes the mean of the first prior, whose precision is its own.
    func adopt(_ imported: Safetensors, into state: State, key: RandomKey) throws(AccrueError) -> State {
        if let method = WeightsFromOutside.method(of: imported) {
            guard method == IncrementalBayes.name, imported.metadata["inference"] == "laplace" else {
                throw WeightsFromOutside.strange(method, needed: "\(IncrementalBayes.name) with inference laplace")
            }
            var adopted = try State(imported)
            adopted.precision = try WeightsFromOutside.weights(imported, prefix: "precision.", like: state.precision)
            adopted.mean = try WeightsFromOutside.weights(imported, prefix: "mean.", like: state.mean)
            _ = try posterior(adopted, scale: adopted.memory.drawScale, offsets: try offsets(adopted))
            return adopted
        }
        return State(
            mean: try WeightsFromOutside.network(imported, like: state.mean, likelihood: model.likelihood), precision: try model.priorPrecision(),
            coupling: try family.none(), memory: StreamMemory(settings))
    }

    /// Weights of new classes have the first prior, N(0, 1/P₀); what is coupled to all classes at once cannot grow.
    func adapt(_ state: State, from old: Schema, key: RandomKey) throws(AccrueError) -> State {
        let first = try model.priorPrecision()
        return State(
            mean: try WeightsFromOutside.appended(state.mean, try first.zeros()), precision: try WeightsFromOutside.appended(state.precision, first),
            coupling: try family.appended(state.coupling), memory: state.memory)
    }

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
        let loop = TrainingLoop(
            plan: plan,
            schedule: .linear(from: settings.learningRate, to: settings.learningRate * settings.finalRate, steps: plan.steps),
            averageFrom: min(plan.steps - 1, Int((Double(plan.steps) * (1 - settings.averageTail)).rounded())))
        let replay = try Replay(work.memory.reservoir, model: model, round: round)
        let strength = settings.temperature / Double(round.roundRows) * (replay?.priorShare ?? 1)
        let pull = try work.precision.map { (precision) throws(AccrueError) in try precision * strength }
        let outcome = try loop.run(
            work.weights, Adam(first: work.first, second: work.second, steps: work.steps, pull: (centre: work.mean, strength: pull)),
            rows: try model.design.rows(shard), round: round, key: key
        ) { (weights, batch, stepKey) throws(AccrueError) in
            // The optimiser adds the prior's gradient as far as D goes, (T/n) D (w − m).
            let again = try replay?.batch(beside: batch, key: stepKey)
            let (value, slope) = try valueAndGradient(at: weights) { (weights) throws(AccrueError) in
                func loss(_ batch: Batch) throws(AccrueError) -> Tensor {
                    var pass = PlainPass(weights)
                    return try model.likelihood.loss(try model.network.apply(batch.inputs, &pass), batch.targets, weights: weights)
                }
                guard let replay, let again else { return try loss(batch) }
                return try loss(batch) + (try loss(again) * replay.weight)
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
            let here = try parts.mean()
            if let before = work.average {
                result.average = try [Weighted(before, rows: work.averaged), Weighted(here, rows: averaged)].mean()
            } else {
                result.average = here
            }
            result.averaged = work.averaged + averaged
        }
        return result
    }

    func statistics(of work: Work, on shard: [Rows], round: Round, key: RandomKey) throws(AccrueError) -> Fisher? {
        let rows = try model.design.rows(shard)
        // The round's `fisherRows`, shared out over its shards, rounded up.
        let wanted = min(rows.count, (settings.fisherRows * rows.count + round.roundRows - 1) / round.roundRows)
        let chosen = key.folding("rows").permutation(rows.count).prefix(wanted)
        let weights = work.average ?? work.weights
        var sums = try weights.zeros()
        var coupling = try family.none()
        for start in stride(from: 0, to: wanted, by: Self.rowsAtOnce) {
            if round.shouldStop() { throw AccrueError(.unavailable, while: "estimating the Fisher information", "the work was stopped") }
            let batch = try rows.batch(chosen[start..<min(wanted, start + Self.rowsAtOnce)])
            let part = try fisher(weights, batch, key: key.folding("labels").folding(start))
            sums = try sums.zip(part.diagonal) { (sum, part) throws(AccrueError) in try sum + part[0] }
            let (sum, dropped) = try family.sum([coupling, part.coupling])
            coupling = sum
            sums = try sums.adding(dropped)
        }
        let scale = Double(rows.count) / Double(wanted)
        return Fisher(
            sums: try sums.map { (sum) throws(AccrueError) in try sum * scale }, coupling: try family.scaled(coupling, by: scale))
    }

    func score(_ state: State, on rows: Rows, key: RandomKey) throws(AccrueError) -> Score? {
        let offsets = try offsets(state)
        var score = try posterior(state, scale: state.memory.drawScale, offsets: offsets).score(rows, draws: settings.scoreDraws, key: key)
        guard settings.drawScale == nil else { return score }
        let few = rows.rows(0..<min(rows.count, StreamMemory.scaleRows))
        // The same standard normals at every scale: differences between scales are much surer than the densities themselves.
        score.densityByScale = try StreamMemory.scaleFactors.map { (factor) throws(AccrueError) in
            try posterior(state, scale: state.memory.drawScale * factor, offsets: offsets).score(few, draws: StreamMemory.scaleDraws, key: key.folding("scales")).logDensity
        }
        return score
    }

    func finish(_ work: Work, round: Round, moments: [Fisher], scores: Score?, key: RandomKey) throws(AccrueError) -> State {
        let first = try model.priorPrecision()
        let (memory, keep) = work.memory.next(work.offered, scores: scores, round: round, settings: settings)
        var precision = try work.precision.zip(first) { (precision, first) throws(AccrueError) in
            try first[0].cast(to: .f64) + (try (precision.cast(to: .f64) - first[0].cast(to: .f64)) * keep)
        }
        for part in moments {
            precision = try precision.zip(part.sums) { (sum, fisher) throws(AccrueError) in try sum + (try fisher[0].cast(to: .f64) * (1 / settings.temperature)) }
        }
        // The first prior couples nothing, so of C its share κ stays.
        let shares = try moments.map { (part) throws(AccrueError) in try family.scaled(part.coupling, by: 1 / settings.temperature) }
        let (coupling, dropped) = try family.sum([try family.scaled(work.coupling, by: keep)] + shares)
        precision = try precision.adding(dropped)
        return State(
            mean: work.average ?? work.weights,
            precision: try precision.map { (tensor) throws(AccrueError) in try tensor.clamped(1e-8...Self.precisionMax).cast(to: .f32) }, coupling: coupling,
            memory: memory)
    }

    func remarks(on state: State) throws(AccrueError) -> [Remark] { state.memory.remarks(settings) }

    func load(_ state: State) throws(AccrueError) -> any LoadedState {
        try posterior(state, scale: state.memory.drawScale, offsets: try offsets(state))
    }

    private typealias Offsets = @Sendable (RandomKey) throws(AccrueError) -> NamedTensors

    /// Draws around zero at scale 1, made ready once for all scales; nil where weights are independent.
    private func offsets(_ state: State) throws(AccrueError) -> Offsets? {
        try state.coupling.check(against: try family.none(), while: "loading a posterior")
        return try family.draws(state.precision, state.coupling)
    }

    private func posterior(_ state: State, scale: Double, offsets: Offsets?) throws(AccrueError) -> NetworkPosterior {
        var more = state.memory.description
        if settings.family != .diagonal { more["family"] = .string(settings.family.rawValue) }
        if settings.predictive != .draws { more["predictive"] = .string(settings.predictive.rawValue) }
        if settings.family == .lowRank { more["rank"] = .integer(settings.rank) }
        return try model.posterior(
            mean: state.mean, deviation: try state.precision.map { (precision) throws(AccrueError) in try precision.reciprocalSquareRoot() }, scale: scale,
            offsets: offsets, linearised: settings.predictive == .linearised, inference: "laplace", more: more)
    }

    private static let rowsAtOnce = 100
    private static let precisionMax = 1e8

    private func plan(_ round: Round) throws(AccrueError) -> TrainingPlan {
        try TrainingPlan(epochs: settings.epochs, batch: settings.batch, round: round)
    }

    /// A gradient with what C adds to the prior's: (T/n) C (w − m). The first prior has no C.
    private func adding(_ work: Work, at weights: NamedTensors, strength: Double, to slope: NamedTensors) throws(AccrueError) -> NamedTensors {
        guard !work.coupling.names.isEmpty else { return slope }
        let away = try weights.zip(work.mean) { (weight, mean) throws(AccrueError) in try weight - mean[0] }
        return try slope.adding(try family.product(work.coupling, away).map { (part) throws(AccrueError) in try part * strength })
    }

    /// Fisher information of a batch, the likelihood's own weights with it.
    private func fisher(_ weights: NamedTensors, _ batch: Batch, key: RandomKey) throws(AccrueError) -> Information {
        var information = try family.information(weights, batch, key: key)
        // The information about a Gaussian's log variance is ½ a row, in closed form.
        let own = try model.likelihood.ownWeights()
        var list = information.diagonal.tensors.map { ($0.name, $0.tensor) }
        for (name, tensor) in own { list.append((name, try .full(tensor.shape, 0.5 * Double(batch.inputs.rowCount)))) }
        information.diagonal = NamedTensors(list)
        return information
    }
}

extension NamedTensors {
    /// The sum with a tree that has some of the names.
    fileprivate func adding(_ other: NamedTensors) throws(AccrueError) -> NamedTensors {
        var result = self
        try result.visit { (name, tensor) throws(AccrueError) in
            if other.contains(name) { tensor = try tensor + (try other.tensor(name).cast(to: tensor.dtype)) }
        }
        return result
    }
}
