public import AccrueBayes
public import AccrueCore
import AccrueTensor
import Foundation

/// Variance networks: the weights of some layers are N(0, σ²), so that what such a layer knows lies in its variances alone. A prediction averages draws;
/// with weights replaced by their expectations the network guesses.
///
/// Trained on the mean loss of draws by local reparameterisation, in the first round without a prior on σ, or with T/n times the divergence from `prior`; from then on
///
///     mean −log p + T/n · (Σ ½ (r − 1 − log r) + P/2 Σ (w − w₀)²),  r = σ²/σ₀²,
///
/// against the version before: zero-mean Gaussians are closed under this recursion. With `noise: dropout` the same layers have ordinary weights and dropout instead:
/// what variance layers are compared with.
///
/// Source: Neklyudov, Molchanov, Ashukha & Vetrov, "Variance networks: when expectation does not meet your expectations" (ICLR 2019, arXiv 1803.03764) and its
/// code; of the paper only abstract and part of the introduction were read. The recursion over parts, the pull on ordinary weights and its merge are this
/// project's. The paper's criterion for which weights may be replaced by their expectations is not known here (its formula was not found); what is used is
/// derived: see `ReplaceableWeights`.
///
/// What is exact in its merge: the average of σ² over shards is the second moment of the mixture of the shards' weights, and batch statistics are pooled exactly.
/// Factors of 1/σ² are not multiplied: data widen many weights, whose factors are no Gaussians, and without a prior there is nothing to divide by.
/// What is not: that a network with it, or with averaged ordinary weights, is as good as those it came from.
public struct VarianceNetwork: LearningMethod {
    public static let name = "VarianceNetwork"

    public struct State: StoredValue {
        /// Ordinary weights; those of variance layers have none but their biases.
        var weights: NamedTensors
        /// σ² by the weight's name.
        var variances: NamedTensors
        /// NAME.mean and NAME.variance with noise on; empty without batch norms.
        var statistics: NamedTensors
    }

    public struct Work: StoredValue {
        /// The version before; it pulls from the second round on.
        var prior: State
        /// Ordinary weights, and σ under the weights' names.
        var training: AdamTraining
    }

    public struct Delta: StoredValue {
        var training: AdamTraining
    }

    private let settings: Settings
    private let schema: Schema
    private let network: Network
    private let design: Design
    /// Layers whose weights have mean zero.
    private let varianceLayers: [Layer.Affine]

    /// - Throws: `invalidInput` when the settings or the schema do not fit.
    public init(settings: Settings, schema: Schema) throws(AccrueError) {
        try self.init(
            settings: settings, schema: schema,
            network: try settings.model.network(inputShape: Design.inputShape(schema), outputs: settings.likelihood.outputs))
    }

    /// With a network of layers that settings cannot declare.
    init(settings: Settings, schema: Schema, network: Network) throws(AccrueError) {
        self.settings = settings
        self.schema = schema
        self.network = network
        design = try Design(schema: schema, network: network, likelihood: settings.likelihood)
        varianceLayers = settings.noise == .variance ? network.affineLayers.filter { settings.layers.contains($0.name) } : []
    }

    /// - Throws: `invalidInput` when the settings or the schema do not fit.
    public static func make(_ value: JSONValue, _ schema: Schema) throws(AccrueError) -> any OpaqueMethod {
        ErasedMethod(try VarianceNetwork(settings: try Settings(value, schema: schema), schema: schema))
    }

    public var phases: MethodPhases { MethodPhases(scores: true, statistics: !network.batchNorms.isEmpty) }

    /// σ is uniform in ±1/√fan-in, as in the paper's code; ordinary weights as everywhere.
    public func initialState(key: RandomKey) throws(AccrueError) -> State {
        let all = try network.initialWeights(with: settings.likelihood, key: key)
        let names = Set(varianceLayers.map(\.weight))
        var variances: [(String, Tensor)] = []
        for layer in varianceLayers {
            variances.append((layer.weight, try (try key.folding("sigma").folding(layer.name).uniform(layer.weightShape) * (1 / Double(layer.fanIn).squareRoot())).squared()))
        }
        return State(
            weights: NamedTensors(all.tensors.filter { !names.contains($0.name) }.map { ($0.name, $0.tensor) }), variances: NamedTensors(variances),
            statistics: try network.initialStatistics())
    }

    /// A posterior of this method with the same layers is taken as it is. A bare network does not say what variances are, and is taken for `noise: dropout` alone.
    public func adopt(_ imported: Safetensors, into state: State, key: RandomKey) throws(AccrueError) -> State {
        guard let method = WeightsFromOutside.method(of: imported) else {
            if varianceLayers.isEmpty {
                let network = try WeightsFromOutside.network(
                    imported, weights: state.weights, statistics: try network.initialStatistics(), likelihood: settings.likelihood)
                return State(weights: network.weights, variances: state.variances, statistics: network.statistics)
            }
            throw AccrueError(
                .invalidInput, while: "importing a posterior", "the file is a bare network; layers \(settings.layers.joined(separator: ", ")) have variances, which it does not say",
                hint: "import a posterior of \(Self.name), or push the data that the network was learned from")
        }
        guard method == Self.name else { throw WeightsFromOutside.strange(method, needed: Self.name) }
        let adopted = State(
            weights: try WeightsFromOutside.weights(imported, prefix: "weights.", like: state.weights),
            variances: try WeightsFromOutside.weights(imported, prefix: "variances.", like: state.variances),
            statistics: try WeightsFromOutside.weights(imported, prefix: "statistics.", like: state.statistics))
        try check(adopted)
        return adopted
    }

    /// Weights of new classes are zero. (The last layer is never a variance layer.)
    public func adapt(_ state: State, from old: Schema, key: RandomKey) throws(AccrueError) -> State {
        var result = state
        result.weights = try WeightsFromOutside.appended(state.weights, try initialState(key: key).weights.zeros())
        return result
    }

    public func begin(_ state: State, round: Round, key: RandomKey) throws(AccrueError) -> Work {
        _ = try plan(round)
        var start: [(String, Tensor)] = state.weights.tensors.map { ($0.name, $0.tensor) }
        for (name, variance) in state.variances.tensors { start.append((name, try variance.squareRoot())) }
        return Work(prior: state, training: try AdamTraining(from: NamedTensors(start)))
    }

    public func fit(_ work: Work, to shard: [Rows], round: Round, key: RandomKey) throws(AccrueError) -> (delta: Delta, report: FitReport) {
        let plan = try plan(round)
        let loop = TrainingLoop(plan: plan, learningRate: settings.learningRate, finalRate: settings.finalRate, averageTail: settings.averageTail)
        let share = settings.temperature / Double(round.roundRows)
        let (training, report) = try work.training.fitted(loop, pull: round.isFirst ? nil : try pull(work, share: share), rows: try design.rows(shard), round: round, key: key) {
            (weights, batch, stepKey) throws(AccrueError) in
            try valueAndGradient(at: weights) { (weights) throws(AccrueError) in
                let variances = try self.variances(of: weights)
                let outputs = try outputs(batch.inputs, PlainPass(weights), weights, variances, key: stepKey, isShared: false).outputs
                let loss = try settings.likelihood.loss(outputs, batch.targets, weights: weights)
                guard share > 0, let divergence = try divergence(variances, from: round.isFirst ? nil : work.prior.variances) else { return loss }
                return try loss + (try divergence * share)
            }
        }
        return (Delta(training: try unsigned(training)), report)
    }

    /// σ and −σ are the same layer: the one with σ ≥ 0, so that what Adam remembers of shards points the same way.
    private func unsigned(_ training: AdamTraining) throws(AccrueError) -> AdamTraining {
        var result = training
        for layer in varianceLayers {
            let sign = try training.weights.tensor(layer.weight).sign()
            func flip(_ name: String, _ tensor: inout Tensor) throws(AccrueError) { if name == layer.weight { tensor = try tensor * sign } }
            try result.weights.visit(flip)
            try result.first.visit(flip)
        }
        return result
    }

    public func merge(_ deltas: [Weighted<Delta>], into work: Work, round: Round, key: RandomKey) throws(AccrueError) -> Work {
        var result = work
        let names = Set(varianceLayers.map(\.weight))
        func powered(_ training: AdamTraining, _ change: (Tensor) throws(AccrueError) -> Tensor) throws(AccrueError) -> AdamTraining {
            var result = training
            func tree(_ tree: NamedTensors) throws(AccrueError) -> NamedTensors {
                var tree = tree
                try tree.visit { (name, tensor) throws(AccrueError) in if names.contains(name) { tensor = try change(tensor) } }
                return tree
            }
            result.weights = try tree(training.weights)
            if let average = training.average { result.average = try tree(average) }
            return result
        }
        // Variances are averaged, not deviations.
        let squared = try deltas.map { (delta) throws(AccrueError) in
            Weighted(try powered(delta.value.training) { (sigma) throws(AccrueError) in try sigma.squared() }, rows: delta.rows)
        }
        let before = try powered(work.training) { (sigma) throws(AccrueError) in try sigma.squared() }
        result.training = try powered(try before.merged(squared)) { (variance) throws(AccrueError) in try variance.squareRoot() }
        return result
    }

    public func statistics(of work: Work, on shard: [Rows], round: Round, key: RandomKey) throws(AccrueError) -> BatchFlow? {
        guard !network.batchNorms.isEmpty else { return nil }
        let weights = work.training.result, variances = try variances(of: weights)
        var flow = BatchFlow()
        try flow.add(try design.rows(shard), batch: settings.batch, round: round) { (inputs, start) throws(AccrueError) in
            try outputs(inputs, BatchFlowPass(weights), weights, variances, key: key.folding(start), isShared: false).pass.flows
        }
        return flow
    }

    public func score(_ state: State, on rows: Rows, key: RandomKey) throws(AccrueError) -> Score? {
        try posterior(state).score(rows, draws: settings.scoreDraws, key: key)
    }

    public func finish(_ work: Work, round: Round, moments: [BatchFlow], scores: Score?, key: RandomKey) throws(AccrueError) -> State {
        let result = work.training.result, names = Set(varianceLayers.map(\.weight))
        return State(
            weights: NamedTensors(result.tensors.filter { !names.contains($0.name) }.map { ($0.name, $0.tensor) }), variances: try variances(of: result),
            statistics: try BatchFlow.pooled(moments, network: network))
    }

    public func load(_ state: State) throws(AccrueError) -> any LoadedState {
        try check(state)
        let query = VarianceLayerQuery(
            schema: schema, design: design, network: network, likelihood: settings.likelihood, state: state, layers: varianceLayers
        ) { (variances, key) throws(AccrueError) in try member(State(weights: state.weights, variances: variances, statistics: state.statistics), key) }
        let means = NamedTensors(
            try state.weights.tensors.map { ($0.name, $0.tensor) }
                + state.variances.tensors.map { (name, variance) throws(AccrueError) in (name, try variance.zerosLike()) })
        let expected = NetworkPosterior(
            schema: schema, design: design, network: network, likelihood: settings.likelihood, description: .null,
            members: [NetworkMember(means, statistics: try network.statistics(state.statistics))])
        return LoadedVarianceNetwork(
            posterior: try posterior(state, description: try description(state), verbs: query.verbs), expected: expected, layers: varianceLayers.map(\.name))
    }

    // MARK: mathematics

    private func plan(_ round: Round) throws(AccrueError) -> TrainingPlan {
        try TrainingPlan(epochs: settings.epochs, batch: settings.batch, round: round)
    }

    /// σ² of a tree that has σ under the weights' names.
    private func variances(of weights: NamedTensors) throws(AccrueError) -> NamedTensors {
        NamedTensors(try varianceLayers.map { (layer) throws(AccrueError) in (layer.weight, try weights.tensor(layer.weight).squared()) })
    }

    /// Outputs of one noisy pass, with the plain pass that it went through.
    private func outputs<Inner: NetworkPass>(
        _ inputs: Tensor, _ inner: Inner, _ weights: NamedTensors, _ variances: NamedTensors, key: RandomKey, isShared: Bool
    ) throws(AccrueError) -> (outputs: Tensor, pass: Inner) {
        switch settings.noise {
        case .variance:
            var pass = VariancePass(inner, weights: weights, variances: variances, key: key, isShared: isShared)
            return (try network.apply(inputs, &pass), pass.inner)
        case .dropout:
            var pass = DropoutPass(inner, network: network, behind: settings.layers, rate: settings.rate, key: key, isShared: isShared)
            return (try network.apply(inputs, &pass), pass.inner)
        }
    }

    /// Σ ½ (r − 1 − log r) from the version before, or from the prior where there is none; nil without variance layers or prior.
    private func divergence(_ variances: NamedTensors, from before: NamedTensors?) throws(AccrueError) -> Tensor? {
        var total: Tensor?
        for (name, variance) in variances.tensors {
            let part: Tensor
            if let before {
                part = try KullbackLeibler.zeroMean(variance, from: try before.tensor(name)).sum()
            } else if let prior = settings.prior {
                part = try prior.divergence(variance).sum()
            } else {
                return nil
            }
            total = try total.map { (sum) throws(AccrueError) in try sum + part } ?? part
        }
        return total
    }

    /// The Gaussian around the last version's ordinary weights; σ has its own divergence.
    private func pull(_ work: Work, share: Double) throws(AccrueError) -> (centre: NamedTensors, strength: NamedTensors)? {
        guard share > 0, settings.precision > 0 else { return nil }
        let names = Set(varianceLayers.map(\.weight))
        var strength = work.training.weights
        try strength.visit { (name, tensor) throws(AccrueError) in
            tensor = try .full(tensor.shape, names.contains(name) ? 0 : share * settings.precision)
        }
        var centre = work.training.weights
        try centre.visit { (name, tensor) throws(AccrueError) in if !names.contains(name) { tensor = try work.prior.weights.tensor(name) } }
        return (centre, strength)
    }

    /// One draw: a function of the rows, each by itself. Where only dense layers have variances their weights are drawn, once for all rows: each row's
    /// distribution is the same as with noise of its own.
    private func member(_ state: State, _ key: RandomKey) throws(AccrueError) -> NetworkMember {
        let statistics = try network.statistics(state.statistics)
        let isDense = varianceLayers.allSatisfy { $0.kind == .dense }
        if settings.noise == .variance, isDense {
            var list: [(String, Tensor)] = state.weights.tensors.map { ($0.name, $0.tensor) }
            for (name, variance) in state.variances.tensors { list.append((name, try variance.squareRoot() * (try key.folding(name).normal(variance.shape)))) }
            return NetworkMember(NamedTensors(list), statistics: statistics)
        }
        let (weights, variances, network, settings) = (state.weights, state.variances, network, settings)
        let plain = PlainPass(weights, statistics: statistics)
        return NetworkMember(weights, statistics: statistics) {
            switch settings.noise {
            case .variance: VariancePass(plain, weights: weights, variances: variances, key: key, isShared: true)
            case .dropout: DropoutPass(plain, network: network, behind: settings.layers, rate: settings.rate, key: key, isShared: true)
            }
        }
    }

    private func posterior(
        _ state: State, description: JSONValue = .null, verbs: [String: NetworkPosterior.Verb] = [:]
    ) throws(AccrueError) -> NetworkPosterior {
        NetworkPosterior(schema: schema, design: design, network: network, likelihood: settings.likelihood, description: description, verbs: verbs) {
            (key) throws(AccrueError) in try member(state, key)
        }
    }

    private func check(_ state: State) throws(AccrueError) {
        let expected = try initialState(key: RandomKey(seed: 0)), operation = "loading a posterior"
        try state.weights.check(against: expected.weights, while: operation)
        try state.variances.check(against: expected.variances, while: operation)
        try state.statistics.check(against: expected.statistics, while: operation)
        for (name, variance) in state.variances.tensors where try variance.isBelow(0).cast(to: .f32).sum().item() > 0 {
            throw AccrueError(.corrupt, while: operation, "variances of '\(name)' have numbers below 0", hint: "these bytes were not made by \(Self.name)")
        }
    }

    private func description(_ state: State) throws(AccrueError) -> JSONValue {
        var layers: [JSONValue] = []
        for layer in network.affineLayers {
            var entry: [String: JSONValue] = ["name": .string(layer.name), "shape": .array(layer.weightShape.map { .integer($0) })]
            if state.variances.contains(layer.weight) {
                entry["noise"] = "variance"
                entry["meanDeviation"] = .number(try state.variances.tensor(layer.weight).squareRoot().mean().item())
            } else if settings.layers.contains(layer.name) {
                entry["noise"] = .string(settings.noise.rawValue)
            }
            layers.append(.object(entry))
        }
        return [
            "method": .string(Self.name), "model": .string(settings.model.kind.rawValue), "noise": .string(settings.noise.rawValue),
            "parameters": .integer(state.weights.elementCount + state.variances.elementCount), "layers": .array(layers),
        ]
    }
}
