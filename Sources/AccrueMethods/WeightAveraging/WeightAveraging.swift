public import AccrueBayes
public import AccrueCore
import AccrueTensor
import Foundation

/// Stochastic weight averaging: SGD with a rate that does not fall to zero wanders over a flat region of the loss, and the visited weights are averaged
/// into one network; batch statistics are recomputed for the average before it is served.
///
/// Source: Izmailov, Podoprikhin, Garipov, Vetrov & Wilson, "Averaging weights leads to wider optima and better generalization" (UAI 2018,
/// arXiv 1803.05407). That a round's schedule starts anew with every part of the data, and the window over rounds, are this project's.
///
/// What is exact in its merge: the average of all collected weights (row-weighted over shards), and pooled batch statistics (Chan). What is not: that
/// weights trained apart stay in one basin. It is a point estimate: answers have no epistemic part.
public struct WeightAveraging: LearningMethod {
    public static let name = "WeightAveraging"

    /// The `settings` of a pipeline file.
    public struct Settings: Sendable {
        public static let keys = [
            "model", "likelihood", "epochs", "batch", "learningRate", "averagingRate", "momentum", "weightDecay", "averageFrom", "collectEvery", "window",
        ]
        public var model: ModelDeclaration
        public var likelihood: Likelihood
        /// Passes over a round's rows; default 5.
        public var epochs: Int
        /// Rows of a step, over all shards; default 128.
        public var batch: Int
        /// Rate for the first half of the approach; default 0.05.
        public var learningRate: Double
        /// Rate while weights are collected; default 0.01.
        public var averagingRate: Double
        /// Default 0.9.
        public var momentum: Double
        /// L2, per step; default 0.0005.
        public var weightDecay: Double
        /// Share of a round's steps before collecting begins; default 0.5.
        public var averageFrom: Double
        /// Steps between collected weights; default 10.
        public var collectEvery: Int
        /// Collected weights that the average remembers at most, over rounds; default those of one round.
        public var window: Int?

        /// - Throws: `invalidInput` for unknown keys and values out of range.
        public init(_ value: JSONValue, schema: Schema) throws(AccrueError) {
            let settings = try SettingsReader(value, known: Self.keys, while: "reading the settings of \(WeightAveraging.name)")
            model = try ModelDeclaration(settings)
            likelihood = try Likelihood(settings, schema: schema)
            epochs = try settings.whole("epochs", default: 5, in: 1...100_000)
            batch = try settings.whole("batch", default: 128, in: 1...1_000_000)
            learningRate = try settings.number("learningRate", default: 0.05, in: 1e-9...10)
            averagingRate = try settings.number("averagingRate", default: 0.01, in: 0...10)
            momentum = try settings.number("momentum", default: 0.9, in: 0...0.9999)
            weightDecay = try settings.number("weightDecay", default: 0.0005, in: 0...1)
            averageFrom = try settings.number("averageFrom", default: 0.5, in: 0...1)
            collectEvery = try settings.whole("collectEvery", default: 10, in: 1...1_000_000)
            window = settings.has("window") ? try settings.whole("window", default: 1, in: 1...1_000_000_000) : nil
        }
    }

    /// What is served, and where SGD stands.
    public struct State: StoredValue {
        var average: NamedTensors
        /// Of the average; empty without batch norms.
        var statistics: NamedTensors
        var weights: NamedTensors
        /// Collected weights in the average.
        var collected: Int
    }

    /// A round in progress: the average so far, where SGD stands, and how many collected weights the average holds.
    public struct Work: StoredValue {
        var average: NamedTensors
        var weights: NamedTensors
        var collected: Int
    }

    /// What one sweep on one shard comes to.
    public struct Delta: StoredValue {
        var weights: NamedTensors
        /// Mean of what this sweep collected on this shard.
        var average: NamedTensors?
        var collected: Int
    }

    private let settings: Settings
    private let schema: Schema
    private let network: Network
    private let design: Design

    /// - Throws: `invalidInput` when the settings or the schema do not fit.
    public init(settings: Settings, schema: Schema) throws(AccrueError) {
        self.settings = settings
        self.schema = schema
        network = try settings.model.network(inputShape: Design.inputShape(schema), outputs: settings.likelihood.outputs)
        design = try Design(schema: schema, network: network, likelihood: settings.likelihood)
    }

    /// - Throws: `invalidInput` when the settings or the schema do not fit.
    public static func make(_ value: JSONValue, _ schema: Schema) throws(AccrueError) -> any OpaqueMethod {
        ErasedMethod(try WeightAveraging(settings: try Settings(value, schema: schema), schema: schema))
    }

    public var phases: MethodPhases { MethodPhases(scores: true, statistics: !network.batchNorms.isEmpty) }

    public func initialState(key: RandomKey) throws(AccrueError) -> State {
        let weights = try initialWeights(key: key)
        return State(average: weights, statistics: try network.initialStatistics(), weights: weights, collected: 0)
    }

    /// Averaged weights of this method are taken as they are; a network is where SGD goes on from, and the average until the next version.
    public func adopt(_ imported: Safetensors, into state: State, key: RandomKey) throws(AccrueError) -> State {
        if let method = WeightsFromOutside.method(of: imported) {
            guard method == Self.name else { throw WeightsFromOutside.strange(method, needed: Self.name) }
            return State(
                average: try WeightsFromOutside.weights(imported, prefix: "average.", like: state.average),
                statistics: try WeightsFromOutside.weights(imported, prefix: "statistics.", like: state.statistics),
                weights: try WeightsFromOutside.weights(imported, prefix: "weights.", like: state.weights), collected: try StoredTrees.whole("collected", imported))
        }
        // Batch statistics stand beside the weights, as NAME.mean and NAME.variance.
        let all = NamedTensors((state.weights.tensors + state.statistics.tensors).map { ($0.name, $0.tensor) })
        let found = try WeightsFromOutside.network(imported, like: all, likelihood: settings.likelihood)
        let weights = NamedTensors(found.tensors.filter { state.weights.contains($0.name) }.map { ($0.name, $0.tensor) })
        return State(
            average: weights, statistics: NamedTensors(found.tensors.filter { state.statistics.contains($0.name) }.map { ($0.name, $0.tensor) }), weights: weights,
            collected: 0)
    }

    /// Weights of new classes are zero.
    public func adapt(_ state: State, from old: Schema, key: RandomKey) throws(AccrueError) -> State {
        let zeros = try initialWeights(key: key).zeros()
        return State(
            average: try WeightsFromOutside.appended(state.average, zeros), statistics: state.statistics,
            weights: try WeightsFromOutside.appended(state.weights, zeros), collected: state.collected)
    }

    public func begin(_ state: State, round: Round, key: RandomKey) throws(AccrueError) -> Work {
        _ = try plan(round)
        return Work(average: state.average, weights: state.weights, collected: settings.window == nil ? 0 : state.collected)
    }

    public func fit(_ work: Work, to shard: [Rows], round: Round, key: RandomKey) throws(AccrueError) -> (delta: Delta, report: FitReport) {
        let plan = try plan(round)
        let from = min(plan.steps - 1, Int(Double(plan.steps) * settings.averageFrom))
        let loop = TrainingLoop(
            plan: plan,
            // The rate has fallen to the averaging rate when nine tenths of the way to the first collected weights are done.
            schedule: .averaging(initial: settings.learningRate, averaging: settings.averagingRate, reference: Double(max(1, from))),
            averageFrom: from, averageEvery: min(settings.collectEvery, plan.steps - from))
        // Momentum starts at zero after every merge: the merged weights have no past of their own.
        let descent = try MomentumDescent(for: work.weights, momentum: settings.momentum, weightDecay: settings.weightDecay)
        let outcome = try loop.run(work.weights, descent, rows: try design.rows(shard), round: round, key: key) { (weights, batch, _) throws(AccrueError) in
            try valueAndGradient(at: weights) { (weights) throws(AccrueError) in
                var pass = PlainPass(weights)
                return try settings.likelihood.loss(try network.apply(batch.inputs, &pass), batch.targets, weights: weights)
            }
        }
        return (Delta(weights: outcome.weights, average: outcome.average, collected: outcome.averaged), outcome.report)
    }

    public func merge(_ deltas: [Weighted<Delta>], into work: Work, round: Round, key: RandomKey) throws(AccrueError) -> Work {
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

    public func statistics(of work: Work, on shard: [Rows], round: Round, key: RandomKey) throws(AccrueError) -> BatchFlow? {
        let rows = try design.rows(shard)
        // The same batch size on every shard; a short last batch would have other statistics and is left out.
        let size = min(settings.batch, round.roundRows / round.shards)
        var flow = BatchFlow()
        for start in stride(from: 0, through: rows.count - size, by: size) {
            if round.shouldStop() { throw AccrueError(.unavailable, while: "recomputing batch statistics", "the work was stopped") }
            var pass = BatchFlowPass(work.average)
            _ = try network.apply(try rows.inputs(start..<start + size), &pass)
            flow.add(pass.flows)
        }
        return flow
    }

    public func score(_ state: State, on rows: Rows, key: RandomKey) throws(AccrueError) -> Score? {
        try posterior(state).score(rows, draws: 1, key: key)
    }

    public func finish(_ work: Work, round: Round, moments: [BatchFlow], scores: Score?, key: RandomKey) throws(AccrueError) -> State {
        return State(average: work.average, statistics: try BatchFlow.pooled(moments, network: network), weights: work.weights, collected: work.collected)
    }

    public func load(_ state: State) throws(AccrueError) -> any LoadedState { try posterior(state) }

    private func plan(_ round: Round) throws(AccrueError) -> TrainingPlan {
        try TrainingPlan(epochs: settings.epochs, batch: settings.batch, round: round)
    }

    private func initialWeights(key: RandomKey) throws(AccrueError) -> NamedTensors {
        var list = try settings.likelihood.ownWeights()
        for (name, tensor) in try network.initialWeights(key: key).tensors { list.append((name, tensor)) }
        return NamedTensors(list)
    }

    private func posterior(_ state: State) throws(AccrueError) -> NetworkPosterior {
        try state.average.check(against: try initialWeights(key: RandomKey(seed: 0)), while: "loading averaged weights")
        let member = NetworkMember(state.average, statistics: try network.statistics(state.statistics))
        let distance = try state.average.zip(state.weights) { (a, w) throws(AccrueError) in try (a - w[0]).squared().sum() }.tensors
        var square = 0.0
        for (_, tensor) in distance { square += try tensor.item() }
        return NetworkPosterior(
            schema: schema, design: design, network: network, likelihood: settings.likelihood, isPoint: true,
            description: .object([
                "method": .string(Self.name), "model": .string(settings.model.kind.rawValue), "parameters": .integer(state.average.elementCount),
                "collected": .integer(state.collected), "distanceToLastWeights": .number(square.squareRoot()),
            ])
        ) { (_) throws(AccrueError) in member }
    }
}
