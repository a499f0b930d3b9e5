import AccrueBayes
import AccrueCore
import AccrueTensor

/// SWA: the collected weights are averaged into one network; batch statistics are recomputed for the average before it is served.
///
/// What is exact in its merge: the average of all collected weights (row-weighted over shards), and pooled batch statistics (Chan). It is a point
/// estimate: answers have no epistemic part. Source: Izmailov et al. 2018.
struct PointAverage: LearningMethod {
    /// What is served, and where SGD stands.
    struct State: StoredValue {
        var average: NamedTensors
        /// Of the average; empty without batch norms.
        var statistics: NamedTensors
        var weights: NamedTensors
        /// Collected weights in the average.
        var collected: Int
    }

    /// A round in progress: the average so far, where SGD stands, and how many collected weights the average holds.
    struct Work: StoredValue {
        var average: NamedTensors
        var weights: NamedTensors
        var collected: Int
    }

    /// What one sweep on one shard comes to.
    struct Delta: StoredValue {
        var weights: NamedTensors
        /// Mean of what this sweep collected on this shard.
        var average: NamedTensors?
        var collected: Int
    }

    let model: AveragingModel
    private var settings: WeightAveraging.Settings { model.settings }

    var phases: MethodPhases { model.phases }

    func initialState(key: RandomKey) throws(AccrueError) -> State {
        let weights = try model.initialWeights(key: key)
        return State(average: weights, statistics: try model.network.initialStatistics(), weights: weights, collected: 0)
    }

    /// Averaged weights of this method are taken as they are; a network is where SGD goes on from, and the average until the next version.
    func adopt(_ imported: Safetensors, into state: State, key: RandomKey) throws(AccrueError) -> State {
        if try WeightAveraging.Posterior.point.made(imported) {
            return State(
                average: try WeightsFromOutside.weights(imported, prefix: "average.", like: state.average),
                statistics: try WeightsFromOutside.weights(imported, prefix: "statistics.", like: state.statistics),
                weights: try WeightsFromOutside.weights(imported, prefix: "weights.", like: state.weights),
                collected: try StoredTrees.whole("collected", imported))
        }
        let (weights, statistics) = try WeightsFromOutside.network(
            imported, weights: state.weights, statistics: state.statistics, likelihood: settings.likelihood)
        return State(average: weights, statistics: statistics, weights: weights, collected: 0)
    }

    /// Weights of new classes are zero.
    func adapt(_ state: State, from old: Schema, key: RandomKey) throws(AccrueError) -> State {
        let zeros = try model.initialWeights(key: key).zeros()
        return State(
            average: try WeightsFromOutside.appended(state.average, zeros), statistics: state.statistics,
            weights: try WeightsFromOutside.appended(state.weights, zeros), collected: state.collected)
    }

    func begin(_ state: State, round: Round, key: RandomKey) throws(AccrueError) -> Work {
        _ = try model.plan(round)
        return Work(average: state.average, weights: state.weights, collected: settings.window == nil ? 0 : state.collected)
    }

    func fit(_ work: Work, to shard: [Rows], round: Round, key: RandomKey) throws(AccrueError) -> (delta: Delta, report: FitReport) {
        let outcome = try model.trained(work.weights, on: shard, round: round, key: key)
        return (Delta(weights: outcome.weights, average: outcome.average, collected: outcome.averaged), outcome.report)
    }

    func merge(_ deltas: [Weighted<Delta>], into work: Work, round: Round, key: RandomKey) throws(AccrueError) -> Work {
        var result = work
        result.weights = try deltas.map { Weighted($0.value.weights, rows: $0.rows) }.mean()
        let parts = deltas.compactMap { delta in delta.value.average.map { Weighted($0, rows: delta.rows) } }
        guard parts.count == deltas.count, let collected = deltas.first?.value.collected, collected > 0 else { return result }
        let here = try parts.mean()
        // A bounded memory is an exponential average over what was collected before.
        let before = settings.window.map { min(work.collected, max(0, $0 - collected)) } ?? work.collected
        result.average = before == 0 ? here : try [Weighted(work.average, rows: before), Weighted(here, rows: collected)].mean()
        result.collected = before + collected
        return result
    }

    func statistics(of work: Work, on shard: [Rows], round: Round, key: RandomKey) throws(AccrueError) -> BatchFlow? {
        var flow = BatchFlow()
        try model.addFlow(work.average, on: shard, round: round, to: &flow)
        return flow
    }

    func score(_ state: State, on rows: Rows, key: RandomKey) throws(AccrueError) -> Score? {
        try posterior(state).score(rows, draws: 1, key: key)
    }

    func finish(_ work: Work, round: Round, moments: [BatchFlow], scores: Score?, key: RandomKey) throws(AccrueError) -> State {
        State(average: work.average, statistics: try BatchFlow.pooled(moments, network: model.network), weights: work.weights, collected: work.collected)
    }

    func load(_ state: State) throws(AccrueError) -> any LoadedState { try posterior(state) }

    private func posterior(_ state: State) throws(AccrueError) -> NetworkPosterior {
        NetworkPosterior(
            schema: model.schema, design: model.design, network: model.network, likelihood: settings.likelihood,
            description: model.description(
                parameters: state.average.elementCount,
                ["collected": .integer(state.collected), "distanceToLastWeights": .number(try model.distance(state.average, state.weights))]),
            members: [try model.member(state.average, state.statistics)])
    }
}
