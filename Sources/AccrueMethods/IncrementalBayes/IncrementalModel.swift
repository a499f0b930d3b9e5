import AccrueBayes
import AccrueCore
import AccrueTensor

/// What all kinds of inference over networks share: the network, its prior, and its first weights.
struct IncrementalModel: Sendable {
    let settings: IncrementalBayes.Settings
    let schema: Schema
    let network: Network
    let design: Design
    var likelihood: Likelihood { settings.likelihood }

    /// Random first weights, and the likelihood's own.
    func initialWeights(key: RandomKey) throws(AccrueError) -> NamedTensors {
        try network.initialWeights(with: likelihood, key: key)
    }

    /// Precisions of the first prior N(0, 1/P₀), weight by weight.
    func priorPrecision() throws(AccrueError) -> NamedTensors {
        var list: [(String, Tensor)] = []
        for (name, tensor) in try likelihood.ownWeights() { list.append((name, try .full(tensor.shape, settings.priorPrecision))) }
        for layer in network.affineLayers {
            let precision = settings.priorPrecision * (settings.priorPerFanIn ? Double(layer.fanIn) : 1)
            list.append((layer.weight, try .full(layer.weightShape, precision)))
            if layer.hasBias { list.append((layer.bias, try .full([layer.outputs], precision))) }
        }
        return NamedTensors(list)
    }

    /// Kept rows that a round learns again; nil when there are none.
    func replay(_ reservoir: Reservoir, _ round: Round) throws(AccrueError) -> Replay? {
        try Replay(reservoir, settings.reservoir, schema: schema, design: design, round: round)
    }

    /// −log p of a batch at plain weights, mean over its rows, nats.
    func loss(_ weights: NamedTensors, _ batch: Batch) throws(AccrueError) -> Tensor {
        var pass = PlainPass(weights)
        return try likelihood.loss(try network.apply(batch.inputs, &pass), batch.targets, weights: weights)
    }

    /// What rows with these numbers of each class are learned with, or predicted with after them, beside weights; nil without `labelShift`.
    func labelShift(_ counts: @autoclosure () throws(AccrueError) -> [Double]) throws(AccrueError) -> NamedTensors? {
        settings.labelShift ? try network.outputShift(LabelShift.logShares(try counts())) : nil
    }

    /// A posterior ready for queries: draws are mean + scale · standard deviation · z.
    /// - Parameters:
    ///   - deviation: of each weight given all others; of the weight itself where weights are independent.
    ///   - offsets: draws around zero at scale 1; nil where weights are independent.
    ///   - linearised: predictions are those of the network made linear in its weights around the mean.
    ///   - more: what `describe` also answers.
    func posterior(
        mean: NamedTensors, deviation: NamedTensors, scale: Double, offsets: (@Sendable (RandomKey) throws(AccrueError) -> NamedTensors)? = nil,
        linearised: Bool = false, inference: String, more: [String: JSONValue] = [:]
    ) throws(AccrueError) -> NetworkPosterior {
        let expected = try priorPrecision()
        try mean.check(against: expected, while: "loading a posterior")
        try deviation.check(against: expected, while: "loading a posterior")
        var layers: [JSONValue] = []
        for (name, tensor) in mean.tensors {
            let spread = try deviation.tensor(name)
            layers.append(
                .object([
                    "name": .string(name), "elements": .integer(tensor.elementCount), "shape": .array(tensor.shape.map { .integer($0) }),
                    "meanAbsolute": .number(try tensor.absolute().mean().item()), "meanDeviation": .number(try spread.mean().item()),
                ]))
        }
        let description: [String: JSONValue] = [
            "method": .string(IncrementalBayes.name), "inference": .string(inference), "model": .string(settings.model.kind.rawValue),
            "parameters": .integer(mean.elementCount), "layers": .array(layers), "drawScale": .number(scale),
        ]
        let linearisation = linearised ? Linearisation(centre: try PreparedMember(NetworkMember(mean), network: network, likelihood: likelihood)) : nil
        let reach = linearised ? scale * Linearisation.step : scale
        let moments = offsets == nil && !linearised ? try largeLayers(mean, deviation, scale: scale) : []
        return NetworkPosterior(
            schema: schema, design: design, network: network, likelihood: likelihood, linearisation: linearisation,
            description: .object(description.merging(more) { $1 })
        ) { (key) throws(AccrueError) in
            if let offsets {
                return NetworkMember(try mean.zip(try offsets(key)) { (mean, offset) throws(AccrueError) in try mean + (try offset[0] * reach) })
            }
            var list: [(String, Tensor)] = []
            for (name, tensor) in mean.tensors {
                list.append((name, try key.folding(name).draw(mean: tensor, deviation: try deviation.tensor(name), scale: reach)))
            }
            let drawn = try moments.map { (name, moments, outputs) throws(AccrueError) in
                (name, (moments: moments, noise: try key.folding("outputs of").folding(name).normal([outputs])))
            }
            return NetworkMember(NamedTensors(list), drawnOutputs: Dictionary(uniqueKeysWithValues: drawn))
        }
    }

    /// Mean and variance of dense layers whose independent weights take longer to read, draw after draw, than their outputs to draw.
    private func largeLayers(_ mean: NamedTensors, _ deviation: NamedTensors, scale: Double) throws(AccrueError) -> [(weight: String, moments: DenseMoments, outputs: Int)] {
        func variance(_ name: String) throws(AccrueError) -> Tensor { try (try deviation.tensor(name) * scale).squared() }
        var layers: [(weight: String, moments: DenseMoments, outputs: Int)] = []
        for layer in network.affineLayers where layer.kind == .dense && layer.inputs * layer.outputs >= Self.largeLayerWeights {
            layers.append(
                (layer.weight, try DenseMoments(
                    mean: try mean.tensor(layer.weight), bias: layer.hasBias ? try mean.tensor(layer.bias) : nil, variance: try variance(layer.weight),
                    biasVariance: layer.hasBias ? try variance(layer.bias) : nil), layer.outputs))
        }
        return layers
    }

    private static let largeLayerWeights = 1 << 14
}
