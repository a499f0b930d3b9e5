public import AccrueBayes
public import AccrueCore
import AccrueTensor
import Foundation

/// Stochastic batch normalisation: while a network with batch norms is trained, what it says of a row depends on the rows beside it; predictions average
/// over that chance instead of doing away with it. Each batch norm's mean is drawn from a Gaussian and its variance from a log-normal, whose moments are
/// collected over batches of training rows with the weights held still:
///
///     p(y | x) ≈ 1/S Σ p(y | x, uₛ),  uₛ ~ r(u) = Π N(μ | m, s²) · LogN(v | mₗ, sₗ²)
///
/// Source: Atanov, Ashukha, Molchanov, Neklyudov & Vetrov, "Uncertainty estimation via stochastic batch normalization" (ICLR 2018 workshop, arXiv 1802.04893)
/// and its code; of the paper only the abstract was read. That moments are exact sums over batches, are collected anew with each part of the data, and may
/// be collected of a network that was trained elsewhere (`epochs: 0`), is this project's; so are its training with Adam and the average over a round's tail.
///
/// What is exact in its merge: pooled moments (Chan), for any shards; batches never cross shards and always have `batch` rows. What is not: averaging weights
/// that were trained apart. Moments belong to the weights they were collected with: a round that moves the weights replaces them, one that does not (`epochs: 0`)
/// adds to them.
public struct StochasticBatchNorm: LearningMethod {
    public static let name = "StochasticBatchNorm"

    /// Which batch norms' statistics are drawn; the others have their pooled ones.
    public enum Drawn: String, CaseIterable, Sendable {
        case all
        /// Those of convolutions, as in the paper's LeNet-5.
        case convolutional
    }

    /// The `settings` of a pipeline file.
    public struct Settings: Sendable {
        public static let keys = [
            "model", "likelihood", "epochs", "batch", "learningRate", "finalRate", "averageTail", "dropout", "passes", "drawn", "scoreDraws",
        ]
        /// With `batchNorm: true`.
        public var model: ModelDeclaration
        public var likelihood: Likelihood
        /// Passes over a round's rows in training; default 5. 0: weights stay as they were imported, and every part adds to the moments.
        public var epochs: Int
        /// M, rows whose statistics are taken together, in training and for the moments: those of a step on one shard. Default 64, at least 2; below 32 single
        /// draws are poor.
        public var batch: Int
        /// Adam's rate at a round's first step; default 0.001.
        public var learningRate: Double
        /// Share of the rate that is left at a round's last step; default 0.05.
        public var finalRate: Double
        /// Share of a round's steps, its last, whose weights are averaged; default 0.5.
        public var averageTail: Double
        /// Chance of a hidden unit to be dropped, in training, for the moments and in draws; default 0.
        public var dropout: Double
        /// Passes over a round's rows, in other batches each, from which the moments are collected; default 1.
        public var passes: Int
        /// Default all.
        public var drawn: Drawn
        /// Draws with which rows are scored before they are learned; default 8.
        public var scoreDraws: Int

        /// - Throws: `invalidInput` for unknown keys, values out of range, or a model without batch norms.
        public init(_ value: JSONValue, schema: Schema) throws(AccrueError) {
            let settings = try SettingsReader(value, known: Self.keys, while: "reading the settings of \(StochasticBatchNorm.name)")
            model = try ModelDeclaration(settings)
            likelihood = try Likelihood(settings, schema: schema)
            epochs = try settings.whole("epochs", default: 5, in: 0...100_000)
            batch = try settings.whole("batch", default: 64, in: 2...1_000_000)
            learningRate = try settings.number("learningRate", default: 0.001, in: 1e-9...10)
            finalRate = try settings.number("finalRate", default: 0.05, in: 0...1)
            averageTail = try settings.number("averageTail", default: 0.5, in: 0...1)
            dropout = try settings.number("dropout", default: 0, in: 0...0.95)
            passes = try settings.whole("passes", default: 1, in: 1...1_000)
            drawn = try settings.choice("drawn", default: .all)
            scoreDraws = try settings.whole("scoreDraws", default: 8, in: 1...Limits.queryDrawsMax)
            guard model.batchNorm else {
                throw settings.refuse("model.batchNorm", "is not true; without batch norms there are no statistics to draw", hint: "add batchNorm: true, or use IncrementalBayes")
            }
            if drawn == .convolutional, model.kind == .mlp {
                throw settings.refuse("drawn", "is convolutional; model mlp has no convolutions", hint: "use drawn: all")
            }
        }
    }

    /// What is served.
    public struct State: StoredValue {
        var weights: NamedTensors
        /// Deterministic ones, NAME.mean and NAME.variance: of all rows that made the moments, or those that an imported network came with.
        var statistics: NamedTensors
        /// Of these weights.
        var moments: BatchMoments
        /// Mean log predictive densities (nats) of the last round's rows before they were learned, with drawn and with deterministic statistics.
        var scored: [Double]?
    }

    /// A round in progress.
    public struct Work: StoredValue {
        var training: AdamTraining
        /// Those that this round's add to; nil: the weights move.
        var kept: BatchMoments?
    }

    public struct Delta: StoredValue {
        var training: AdamTraining
    }

    /// The moments of one shard's batches.
    public struct Collected: StoredValue {
        var moments: BatchMoments
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
        ErasedMethod(try StochasticBatchNorm(settings: try Settings(value, schema: schema), schema: schema))
    }

    public var phases: MethodPhases { MethodPhases(scores: true, statistics: true) }

    public func initialState(key: RandomKey) throws(AccrueError) -> State {
        State(weights: try initialWeights(key: key), statistics: try network.initialStatistics(), moments: BatchMoments(rows: settings.batch))
    }

    /// A posterior of this method, and the average of `WeightAveraging`, are taken as they are; so is a network, whose batch statistics may stand beside its
    /// weights as NAME.mean and NAME.variance. Of what this method did not make, the next part's rows give the moments.
    public func adopt(_ imported: Safetensors, into state: State, key: RandomKey) throws(AccrueError) -> State {
        let none = BatchMoments(rows: settings.batch)
        var adopted: State
        switch WeightsFromOutside.method(of: imported) {
        case Self.name:
            adopted = try State(imported)
            guard adopted.moments.rows == settings.batch else {
                throw AccrueError(
                    .invalidInput, while: "importing a posterior", "its moments are of batches of \(adopted.moments.rows) rows; settings.batch is \(settings.batch)",
                    hint: "set batch to \(adopted.moments.rows), or import the weights alone and push rows to collect moments from")
            }
            adopted.weights = try WeightsFromOutside.weights(imported, prefix: "weights.", like: state.weights)
            adopted.statistics = try WeightsFromOutside.weights(imported, prefix: "statistics.", like: state.statistics)
        case WeightAveraging.name:
            adopted = State(
                weights: try WeightsFromOutside.weights(imported, prefix: "average.", like: state.weights),
                statistics: try WeightsFromOutside.weights(imported, prefix: "statistics.", like: state.statistics), moments: none)
        case let other?: throw WeightsFromOutside.strange(other, needed: "\(Self.name) or \(WeightAveraging.name)")
        case nil:
            let network = try WeightsFromOutside.network(
                imported, weights: state.weights, statistics: try network.initialStatistics(), likelihood: settings.likelihood)
            adopted = State(weights: network.weights, statistics: network.statistics, moments: none)
        }
        try check(adopted)
        return adopted
    }

    /// Weights of new classes are zero; no batch norm comes after them, so moments stay what they are.
    public func adapt(_ state: State, from old: Schema, key: RandomKey) throws(AccrueError) -> State {
        var result = state
        result.weights = try WeightsFromOutside.appended(state.weights, try initialWeights(key: key).zeros())
        return result
    }

    public func begin(_ state: State, round: Round, key: RandomKey) throws(AccrueError) -> Work {
        _ = try plan(round)
        return Work(training: try AdamTraining(from: state.weights), kept: settings.epochs == 0 ? state.moments : nil)
    }

    public func fit(_ work: Work, to shard: [Rows], round: Round, key: RandomKey) throws(AccrueError) -> (delta: Delta, report: FitReport) {
        guard let plan = try plan(round) else {
            if round.shouldStop() { throw AccrueError(.unavailable, while: "fitting shard \(round.shard) of version \(round.index)", "the fit was stopped") }
            return (Delta(training: work.training), FitReport(steps: 0))
        }
        let loop = TrainingLoop(plan: plan, learningRate: settings.learningRate, finalRate: settings.finalRate, averageTail: settings.averageTail)
        let (training, report) = try work.training.fitted(loop, rows: try design.rows(shard), round: round, key: key) {
            (weights, batch, stepKey) throws(AccrueError) in
            try valueAndGradient(at: weights) { (weights) throws(AccrueError) in
                var pass = DropoutPass(PlainPass(weights), network: network, rate: settings.dropout, key: stepKey, isShared: false)
                return try settings.likelihood.loss(try network.apply(batch.inputs, &pass), batch.targets, weights: weights)
            }
        }
        return (Delta(training: training), report)
    }

    public func merge(_ deltas: [Weighted<Delta>], into work: Work, round: Round, key: RandomKey) throws(AccrueError) -> Work {
        guard settings.epochs > 0 else { return work }
        return Work(training: try work.training.merged(deltas.map { Weighted($0.value.training, rows: $0.rows) }), kept: work.kept)
    }

    public func statistics(of work: Work, on shard: [Rows], round: Round, key: RandomKey) throws(AccrueError) -> Collected? {
        let rows = try design.rows(shard), weights = work.training.result
        var moments = BatchMoments(rows: settings.batch)
        for pass in 0..<settings.passes {
            let order = key.folding("order").folding(pass).permutation(rows.count)
            // What is left over of a shard is no whole batch, and would have other statistics.
            for start in stride(from: 0, through: rows.count - settings.batch, by: settings.batch) {
                if round.shouldStop() { throw AccrueError(.unavailable, while: "collecting batch statistics", "the work was stopped") }
                let batch = try rows.batch(order[start..<start + settings.batch])
                moments.add(try flows(weights, batch.inputs, key: key.folding("dropout").folding(pass).folding(start)))
            }
        }
        return Collected(moments: moments)
    }

    /// Scored twice: with drawn statistics, which counts, and with deterministic ones, to tell what drawing them is worth.
    public func score(_ state: State, on rows: Rows, key: RandomKey) throws(AccrueError) -> Score? {
        var score = try posterior(state, .all).score(rows, draws: settings.scoreDraws, key: key)
        if state.moments.batches > 0 {
            score.otherDensities = [DrawnNoise.none.rawValue: try posterior(state, .none).score(rows, draws: 1, key: key).logDensity]
        }
        return score
    }

    public func finish(_ work: Work, round: Round, moments: [Collected], scores: Score?, key: RandomKey) throws(AccrueError) -> State {
        var pooled = work.kept ?? BatchMoments(rows: settings.batch)
        for part in moments { pooled = try pooled.merged(with: part.moments) }
        var statistics: [(String, Tensor)] = []
        for layer in network.batchNorms {
            guard let distribution = pooled.distribution(layer.name) else {
                throw AccrueError(.engine, while: "making a version", "no statistics of '\(layer.name)' were collected")
            }
            let (mean, variance) = try distribution.pooled()
            statistics += [("\(layer.name).mean", mean), ("\(layer.name).variance", variance)]
        }
        return State(
            weights: work.training.result, statistics: NamedTensors(statistics), moments: pooled,
            scored: scores.flatMap { score in score.otherDensities?[DrawnNoise.none.rawValue].map { [score.logDensity / Double(score.rows), $0 / Double(score.rows)] } })
    }

    public func load(_ state: State) throws(AccrueError) -> any LoadedState {
        try check(state)
        let query = BatchStatisticsQuery(schema: schema, design: design, network: network, state: state) {
            (weights, inputs, key) throws(AccrueError) in try flows(weights, inputs, key: key)
        }
        let description = try description(state)
        return try LoadedStochasticBatchNorm(
            noises: DrawnNoise.allCases.filter { settings.dropout > 0 || !$0.needsDropout }, batches: state.moments.batches
        ) { (noise) throws(AccrueError) in try posterior(state, noise, description: description, verbs: query.verbs) }
    }

    // MARK: mathematics

    /// nil: nothing is trained.
    /// - Throws: `invalidInput` when a shard of the round has less than one batch, or sweeps have no epochs.
    private func plan(_ round: Round) throws(AccrueError) -> TrainingPlan? {
        let rows = round.roundRows / round.shards
        guard rows >= settings.batch else {
            throw AccrueError(
                .invalidInput, while: "planning a round", "a shard has \(rows) rows; settings.batch, rows whose statistics are taken together, is \(settings.batch)",
                hint: "push more rows a chunk, raise round.chunks, or lower shards or settings.batch")
        }
        return settings.epochs == 0 ? nil : try TrainingPlan(epochs: settings.epochs, rowsEach: settings.batch, round: round)
    }

    private func initialWeights(key: RandomKey) throws(AccrueError) -> NamedTensors {
        try network.initialWeights(with: settings.likelihood, key: key)
    }

    /// What flows into the batch norms of one batch, as in training.
    private func flows(_ weights: NamedTensors, _ inputs: Tensor, key: RandomKey) throws(AccrueError) -> [String: Moments] {
        var pass = DropoutPass(BatchFlowPass(weights), network: network, rate: settings.dropout, key: key, isShared: false)
        _ = try network.apply(inputs, &pass)
        return pass.inner.flows
    }

    private func check(_ state: State) throws(AccrueError) {
        let operation = "loading a posterior"
        try state.weights.check(against: try initialWeights(key: RandomKey(seed: 0)), while: operation)
        try state.statistics.check(against: try network.initialStatistics(), while: operation)
        func refuse(_ problem: String) -> AccrueError { AccrueError(.corrupt, while: operation, problem, hint: "these bytes belong to other settings") }
        guard state.moments.batches == 0 || Set(state.moments.layers.keys) == Set(network.batchNorms.map(\.name)) else {
            throw refuse("its moments are of \(state.moments.layers.keys.sorted().joined(separator: ", "))")
        }
        for layer in network.batchNorms {
            guard state.moments.layers[layer.name].map({ $0.mean.count == 3 * layer.features }) ?? true else { throw refuse("moments of '\(layer.name)' are of another width") }
            guard try state.statistics.tensor("\(layer.name).variance").doubles().allSatisfy({ $0 >= 0 }) else {
                throw AccrueError(.invalidInput, while: operation, "tensor '\(layer.name).variance' has numbers below 0", hint: "give variances, not logarithms")
            }
        }
    }

    /// Batch norms whose statistics are drawn.
    private var drawnNorms: [Layer.BatchNorm] {
        guard settings.drawn == .convolutional else { return network.batchNorms }
        return zip(network.layers, network.layers.dropFirst()).compactMap { layer, next in
            guard case .affine(let affine) = layer, case .convolution = affine.kind, case .batchNorm(let norm) = next else { return nil }
            return norm
        }
    }

    private func posterior(
        _ state: State, _ noise: DrawnNoise, description: JSONValue = .null, verbs: [String: NetworkPosterior.Verb] = [:]
    ) throws(AccrueError) -> NetworkPosterior {
        let fixed = try network.statistics(state.statistics)
        var distributions: [(String, StatisticDistribution)] = []
        if noise.drawsStatistics { for layer in drawnNorms { if let one = state.moments.distribution(layer.name) { distributions.append((layer.name, one)) } } }
        let drops = noise.drops && settings.dropout > 0
        let (weights, network, rate) = (state.weights, network, settings.dropout)
        guard drops || !distributions.isEmpty else {
            let member = NetworkMember(weights, statistics: fixed)
            return NetworkPosterior(
                schema: schema, design: design, network: network, likelihood: settings.likelihood, description: description, members: [member], verbs: verbs)
        }
        return NetworkPosterior(
            schema: schema, design: design, network: network, likelihood: settings.likelihood, description: description, verbs: verbs
        ) { [distributions] (key) throws(AccrueError) in
            var statistics = fixed
            for (name, distribution) in distributions { statistics[name] = try distribution.draw(key.folding(name)) }
            guard drops else { return NetworkMember(weights, statistics: statistics) }
            let plain = PlainPass(weights, statistics: statistics)
            return NetworkMember(weights, statistics: statistics) { DropoutPass(plain, network: network, rate: rate, key: key, isShared: true) }
        }
    }

    private func description(_ state: State) throws(AccrueError) -> JSONValue {
        var norms: [JSONValue] = []
        for layer in network.batchNorms {
            var entry: [String: JSONValue] = ["name": .string(layer.name), "features": .integer(layer.features)]
            if let r = state.moments.distribution(layer.name) {
                let relative = zip(r.meanDeviation, r.variance).map { $0 / max($1, BatchMoments.floor).squareRoot() }
                entry["meanSpread"] = .number(relative.reduce(0, +) / Double(layer.features))
                entry["logVarianceSpread"] = .number(r.logDeviation.reduce(0, +) / Double(layer.features))
                entry["cappedChannels"] = .integer(r.capped)
            }
            norms.append(.object(entry))
        }
        var result: [String: JSONValue] = [
            "method": .string(Self.name), "model": .string(settings.model.kind.rawValue), "parameters": .integer(state.weights.elementCount),
            "batch": .integer(settings.batch), "batches": .integer(state.moments.batches), "dropout": .number(settings.dropout), "norms": .array(norms),
            "layers": .array(state.weights.tensors.map { ["name": .string($0.name), "shape": .array($0.tensor.shape.map { .integer($0) })] }),
        ]
        if let scored = state.scored, scored.count == 2 {
            result["scoredDrawn"] = .number(scored[0])
            result["scoredDeterministic"] = .number(scored[1])
            result["scoredGain"] = .number(scored[0] - scored[1])
        }
        return .object(result)
    }
}
