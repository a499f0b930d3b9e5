import AccrueBayes
import AccrueCore
import AccrueTensor

/// SWAG: a Gaussian around the mean m of the collected weights, w = m + s (σ ∘ z₁ + Dᵀ z₂ / √(K − 1)) / √2 with variances σ² and the deviations D of the
/// newest K; for `swagDiagonal` w = m + s σ ∘ z₁. s is the settings' `drawScale`.
///
/// What is exact in its merge: n, m and σ² are those of the union of what all shards, sweeps and rounds collected (shards by their rows), and D those
/// that one pass over the union would have kept, step by step and shard by shard within a step. With a window, what was collected before counts less,
/// and so an exponential average takes the union's place. The Gaussian is not a prior: a round starts from the last weights, not from it.
/// Where fewer than K were collected their number takes K's place in √(K − 1), which the authors' code leaves as it is.
/// Source: Maddox et al. 2019, code wjmaddox/swa_gaussian, swag.py; merging: `SnapshotMoments`.
struct SnapshotGaussian: LearningMethod {
    /// What was collected, and where SGD stands.
    struct State: StoredValue {
        var posterior: WeightAveraging.Posterior
        var moments: SnapshotMoments
        var weights: NamedTensors
    }

    /// What one sweep on one shard comes to.
    struct Delta: StoredValue {
        var shard: Int
        var moments: SnapshotMoments
        var weights: NamedTensors
    }

    let model: AveragingModel
    private var settings: WeightAveraging.Settings { model.settings }
    /// K; none are kept for independent weights.
    private var rank: Int { settings.posterior == .swag ? settings.rank : 0 }

    var phases: MethodPhases { model.phases }

    func initialState(key: RandomKey) throws(AccrueError) -> State { try state(at: try model.initialWeights(key: key)) }

    private func state(at weights: NamedTensors) throws(AccrueError) -> State {
        State(posterior: settings.posterior, moments: try SnapshotMoments(at: weights), weights: weights)
    }

    /// A Gaussian of this posterior is taken as it is; a network is where SGD goes on from, and the mean, without a spread, until the next version.
    func adopt(_ imported: Safetensors, into state: State, key: RandomKey) throws(AccrueError) -> State {
        guard try settings.posterior.made(imported) else {
            return try self.state(at: try WeightsFromOutside.network(imported, like: state.weights, likelihood: settings.likelihood))
        }
        var adopted = try State(imported)
        adopted.weights = try WeightsFromOutside.weights(imported, prefix: "weights.", like: state.weights)
        adopted.moments.mean = try WeightsFromOutside.weights(imported, prefix: "mean.", like: state.moments.mean)
        adopted.moments.centredSquares = try WeightsFromOutside.weights(imported, prefix: "centredSquares.", like: state.moments.mean)
        for place in adopted.moments.newest.indices {
            adopted.moments.newest[place].weights = try WeightsFromOutside.weights(imported, prefix: "newest.\(place).", like: state.weights)
        }
        return adopted
    }

    /// Weights of new classes are zero, and have been so ever since: without a spread until the next version.
    func adapt(_ state: State, from old: Schema, key: RandomKey) throws(AccrueError) -> State {
        let zeros = try model.initialWeights(key: key).zeros(), wide = try SnapshotMoments(at: zeros).centredSquares
        var result = state
        result.weights = try WeightsFromOutside.appended(state.weights, zeros)
        result.moments.mean = try WeightsFromOutside.appended(state.moments.mean, wide)
        result.moments.centredSquares = try WeightsFromOutside.appended(state.moments.centredSquares, wide)
        for place in state.moments.newest.indices {
            result.moments.newest[place].weights = try WeightsFromOutside.appended(state.moments.newest[place].weights, zeros)
        }
        return result
    }

    func begin(_ state: State, round: Round, key: RandomKey) throws(AccrueError) -> State {
        _ = try model.plan(round)
        var work = state
        if settings.window == nil { work.moments = try state.moments.counting(as: 0) }
        return work
    }

    func fit(_ work: State, to shard: [Rows], round: Round, key: RandomKey) throws(AccrueError) -> (delta: Delta, report: FitReport) {
        var moments = try SnapshotMoments(at: work.weights)
        // Its part of the newest K of all shards.
        let limit = (rank + round.shards - 1) / round.shards
        let outcome = try model.trained(work.weights, on: shard, round: round, key: key) { (weights) throws(AccrueError) in
            try moments.collect(weights, keeping: limit)
        }
        return (Delta(shard: round.shard, moments: moments, weights: outcome.weights), outcome.report)
    }

    func merge(_ deltas: [Weighted<Delta>], into work: State, round: Round, key: RandomKey) throws(AccrueError) -> State {
        // Which of a step's snapshots counts as newer is the shards' order, not that of their arrival.
        let deltas = deltas.sorted { $0.value.shard < $1.value.shard }
        var result = work
        result.weights = try deltas.map { Weighted($0.value.weights, rows: $0.rows) }.mean()
        guard let collected = deltas.first?.value.moments.count, collected > 0 else { return result }
        // A bounded memory is an exponential average over what was collected before.
        let before = settings.window.map { min(work.moments.count, max(0, Double($0) - collected)) } ?? work.moments.count
        result.moments = try .merged(
            try work.moments.counting(as: before), deltas.map { Weighted($0.value.moments, rows: $0.rows) }, keeping: rank)
        return result
    }

    func score(_ state: State, on rows: Rows, key: RandomKey) throws(AccrueError) -> Score? {
        try posterior(state).score(rows, draws: settings.scoreDraws, key: key)
    }

    func load(_ state: State) throws(AccrueError) -> any LoadedState { try posterior(state) }

    /// Draws of the weights.
    func draws(_ state: State) throws(AccrueError) -> @Sendable (RandomKey) throws(AccrueError) -> NamedTensors {
        let expected = try model.initialWeights(key: RandomKey(seed: 0)), wide = try SnapshotMoments(at: expected).mean
        let operation = "loading a posterior"
        try state.moments.mean.check(against: wide, while: operation)
        try state.moments.centredSquares.check(against: wide, while: operation)
        for snapshot in state.moments.newest { try snapshot.weights.check(against: expected, while: operation) }
        let mean = try state.moments.mean.map { (tensor) throws(AccrueError) in try tensor.cast(to: .f32) }
        let deviation = try state.moments.variances().map { (variance) throws(AccrueError) in try variance.squareRoot().cast(to: .f32) }
        let columns = try state.moments.deviations()
        let isDiagonal = settings.posterior == .swagDiagonal
        let scale = isDiagonal ? settings.drawScale : settings.drawScale * 0.5.squareRoot()
        let share = scale / Double(max(1, columns.count - 1)).squareRoot()
        return { (key) throws(AccrueError) in
            let along = columns.isEmpty ? [] : try key.folding("columns").normal([columns.count], dtype: .f64).doubles().map { $0 * share }
            var list: [(String, Tensor)] = []
            for (name, tensor) in mean.tensors {
                let own = try key.folding(name).draw(mean: tensor, deviation: try deviation.tensor(name), scale: scale)
                let parts = try columns.map { (column) throws(AccrueError) in try column.tensor(name) }
                list.append((name, parts.isEmpty ? own : try .weightedSum([own] + parts, weights: [1] + along)))
            }
            return NamedTensors(list)
        }
    }

    private func posterior(_ state: State) throws(AccrueError) -> NetworkPosterior {
        let draws = try draws(state), parameters = state.weights.elementCount
        var deviation = 0.0, clamped = 0.0
        for (_, variance) in try state.moments.variances(floor: 0).tensors {
            deviation += try variance.squareRoot().sum().item()
            clamped += try variance.isBelow(SnapshotMoments.varianceFloor).cast(to: .f64).sum().item()
        }
        let mean = try state.moments.mean.map { (tensor) throws(AccrueError) in try tensor.cast(to: .f32) }
        var more: [String: JSONValue] = [
            "posterior": .string(settings.posterior.rawValue), "collected": .number(state.moments.count), "drawScale": .number(settings.drawScale),
            "meanDeviation": .number(deviation / Double(parameters)), "clampedShare": .number(clamped / Double(parameters)),
            "distanceToLastWeights": .number(try model.distance(mean, state.weights)),
        ]
        if settings.posterior == .swag { more["rank"] = .integer(state.moments.newest.count) }
        return NetworkPosterior(
            schema: model.schema, design: model.design, network: model.network, likelihood: settings.likelihood,
            description: model.description(parameters: parameters, more)
        ) { (key) throws(AccrueError) in NetworkMember(try draws(key)) }
    }
}
