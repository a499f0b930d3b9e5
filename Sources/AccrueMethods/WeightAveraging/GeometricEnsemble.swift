import AccrueBayes
import AccrueCore
import AccrueTensor

/// FGE, fast geometric ensembling: within each cycle the rate falls from `high` to `low` and rises again; the weights at its lowest are a member of an
/// ensemble whose predictions are averaged.
///
/// Members are ordered by round, cycle and shard; over the settings' `members`, the oldest go. So a merge is exact: the ensemble is that of the union,
/// and every member counts alike. What is approximate is that a shard's members have seen, in this round, the shard's rows alone. The weights from which
/// the next sweep starts are the row-weighted mean (local SGD). Batch statistics of every member are recomputed over the round's rows.
/// That cycles begin anew with each round, after an approach with SWA's schedule, and that members stay over rounds, are this project's.
/// Source: Garipov et al. 2018, code timgaripov/dnn-mode-connectivity, fge.py.
struct GeometricEnsemble: LearningMethod {
    struct State: StoredValue {
        /// Oldest first; never empty.
        var members: [NamedTensors]
        /// One a member; empty trees without batch norms.
        var statistics: [NamedTensors]
        /// Where SGD stands.
        var weights: NamedTensors
        /// Members that were ever collected; 0: the only one is where learning starts.
        var collected: Int
    }

    struct Work: StoredValue {
        var members: [NamedTensors]
        var weights: NamedTensors
        var collected: Int
    }

    /// What one sweep on one shard comes to.
    struct Delta: StoredValue {
        var shard: Int
        var members: [NamedTensors]
        var weights: NamedTensors
    }

    let model: AveragingModel
    private var settings: WeightAveraging.Settings { model.settings }

    var phases: MethodPhases { model.phases }

    func initialState(key: RandomKey) throws(AccrueError) -> State {
        let weights = try model.initialWeights(key: key)
        return State(members: [weights], statistics: [try model.network.initialStatistics()], weights: weights, collected: 0)
    }

    /// An ensemble is taken as it is; a network is where SGD goes on from, and the only member until the next version.
    func adopt(_ imported: Safetensors, into state: State, key: RandomKey) throws(AccrueError) -> State {
        let statistics = try model.network.initialStatistics()
        guard try WeightAveraging.Posterior.fge.made(imported) else {
            let found = try WeightsFromOutside.network(
                imported, weights: state.weights, statistics: state.statistics.last ?? statistics, likelihood: settings.likelihood)
            return State(members: [found.weights], statistics: [found.statistics], weights: found.weights, collected: 0)
        }
        var adopted = try State(imported)
        adopted.weights = try WeightsFromOutside.weights(imported, prefix: "weights.", like: state.weights)
        for place in adopted.members.indices {
            adopted.members[place] = try WeightsFromOutside.weights(imported, prefix: "members.\(place).", like: state.weights)
            adopted.statistics[place] = try WeightsFromOutside.weights(imported, prefix: "statistics.\(place).", like: statistics)
        }
        return adopted
    }

    /// Weights of new classes are zero in every member.
    func adapt(_ state: State, from old: Schema, key: RandomKey) throws(AccrueError) -> State {
        let zeros = try model.initialWeights(key: key).zeros()
        var result = state
        result.weights = try WeightsFromOutside.appended(state.weights, zeros)
        result.members = try state.members.map { (member) throws(AccrueError) in try WeightsFromOutside.appended(member, zeros) }
        return result
    }

    func begin(_ state: State, round: Round, key: RandomKey) throws(AccrueError) -> Work {
        _ = try model.plan(round)
        return Work(members: state.collected == 0 ? [] : state.members, weights: state.weights, collected: state.collected)
    }

    func fit(_ work: Work, to shard: [Rows], round: Round, key: RandomKey) throws(AccrueError) -> (delta: Delta, report: FitReport) {
        var members: [NamedTensors] = []
        let outcome = try model.trained(work.weights, on: shard, round: round, key: key) { (weights) throws(AccrueError) in members.append(weights) }
        return (Delta(shard: round.shard, members: members, weights: outcome.weights), outcome.report)
    }

    func merge(_ deltas: [Weighted<Delta>], into work: Work, round: Round, key: RandomKey) throws(AccrueError) -> Work {
        // Which of a cycle's members counts as newer is the shards' order, not that of their arrival.
        let deltas = deltas.sorted { $0.value.shard < $1.value.shard }
        let cycles = deltas.map(\.value.members.count).max() ?? 0
        let new = (0..<cycles).flatMap { cycle in deltas.compactMap { $0.value.members.dropFirst(cycle).first } }
        return Work(
            members: Array((work.members + new).suffix(settings.members)), weights: try deltas.map { Weighted($0.value.weights, rows: $0.rows) }.mean(),
            collected: work.collected + new.count)
    }

    func statistics(of work: Work, on shard: [Rows], round: Round, key: RandomKey) throws(AccrueError) -> BatchFlow? {
        var flow = BatchFlow()
        for (place, member) in work.members.enumerated() { try model.addFlow(member, on: shard, round: round, prefix: "\(place).", to: &flow) }
        return flow
    }

    func score(_ state: State, on rows: Rows, key: RandomKey) throws(AccrueError) -> Score? {
        try posterior(state).score(rows, draws: state.members.count, key: key)
    }

    func finish(_ work: Work, round: Round, moments: [BatchFlow], scores: Score?, key: RandomKey) throws(AccrueError) -> State {
        var statistics: [NamedTensors] = []
        for place in work.members.indices { statistics.append(try BatchFlow.pooled(moments, network: model.network, prefix: "\(place).")) }
        return State(members: work.members, statistics: statistics, weights: work.weights, collected: work.collected)
    }

    func load(_ state: State) throws(AccrueError) -> any LoadedState { try posterior(state) }

    private func posterior(_ state: State) throws(AccrueError) -> NetworkPosterior {
        var members: [NetworkMember] = []
        for (weights, statistics) in zip(state.members, state.statistics) { members.append(try model.member(weights, statistics)) }
        return NetworkPosterior(
            schema: model.schema, design: model.design, network: model.network, likelihood: settings.likelihood,
            description: model.description(
                parameters: state.weights.elementCount,
                [
                    "posterior": .string(WeightAveraging.Posterior.fge.rawValue), "members": .integer(members.count), "collected": .integer(state.collected),
                    "distanceToLastWeights": .number(try model.distance(state.members.last ?? state.weights, state.weights)),
                ]),
            members: members)
    }
}
