import AccrueBayes
import AccrueCore
import AccrueTensor

/// Count, mean and centred squares of what flows into each batch norm of one network or several.
struct BatchFlow: StoredValue {
    /// By layer, under the prefix of its network.
    var layers: [String: Moments]
}

extension AveragingModel {
    /// A training-mode pass of weights over a shard, for the moments of what flows into each batch norm.
    /// - Parameter prefix: of the layers' names.
    func flow(_ weights: NamedTensors, on shard: [Rows], round: Round, prefix: String = "") throws(AccrueError) -> BatchFlow {
        let rows = try design.rows(shard)
        // The same batch size on every shard; a short last batch would have other statistics and is left out.
        let size = min(settings.batch, round.roundRows / round.shards)
        var layers: [String: Moments] = [:]
        for start in stride(from: 0, through: rows.count - size, by: size) {
            if round.shouldStop() { throw AccrueError(.unavailable, while: "recomputing batch statistics", "the work was stopped") }
            var pass = FlowPass(weights: weights, layers: layers)
            _ = try network.apply(try rows.inputs(start..<start + size), &pass)
            layers = pass.layers
        }
        return BatchFlow(layers: Dictionary(uniqueKeysWithValues: layers.map { (prefix + $0.key, $0.value) }))
    }

    /// Statistics of all shards together: `LAYER.mean` and `LAYER.variance`; none without batch norms.
    func statistics(_ parts: [BatchFlow], prefix: String = "") throws(AccrueError) -> NamedTensors {
        var list: [(String, Tensor)] = []
        for layer in network.batchNorms {
            var pooled = Moments(dimension: layer.features)
            for part in parts { if let here = part.layers[prefix + layer.name] { pooled.merge(here) } }
            guard pooled.count > 0 else { throw AccrueError(.engine, while: "making a version", "no batch statistics of '\(layer.name)' were computed") }
            list.append(("\(layer.name).mean", try Tensor(pooled.mean.map(Float.init), shape: [layer.features])))
            list.append(("\(layer.name).variance", try Tensor(pooled.variances.map(Float.init), shape: [layer.features])))
        }
        return NamedTensors(list)
    }

    /// Mean 0 and variance 1 everywhere: of networks that have seen no rows.
    func initialStatistics() throws(AccrueError) -> NamedTensors {
        var list: [(String, Tensor)] = []
        for layer in network.batchNorms {
            list.append(("\(layer.name).mean", try .zeros([layer.features])))
            list.append(("\(layer.name).variance", try .ones([layer.features])))
        }
        return NamedTensors(list)
    }

    /// Weights with the statistics that they are served with.
    func member(_ weights: NamedTensors, _ statistics: NamedTensors) throws(AccrueError) -> NetworkMember {
        try weights.check(against: try initialWeights(key: RandomKey(seed: 0)), while: "loading averaged weights")
        var byLayer: BatchStatistics = [:]
        for layer in network.batchNorms {
            byLayer[layer.name] = (try statistics.tensor("\(layer.name).mean"), try statistics.tensor("\(layer.name).variance"))
        }
        return NetworkMember(weights, statistics: byLayer)
    }

    /// Weights and statistics of a bare network in a file, where batch statistics stand beside the weights, as NAME.mean and NAME.variance.
    func network(
        _ imported: Safetensors, weights: NamedTensors, statistics: NamedTensors
    ) throws(AccrueError) -> (weights: NamedTensors, statistics: NamedTensors) {
        let all = NamedTensors((weights.tensors + statistics.tensors).map { ($0.name, $0.tensor) })
        let found = try WeightsFromOutside.network(imported, like: all, likelihood: settings.likelihood).tensors
        func those(of tree: NamedTensors) -> NamedTensors { NamedTensors(found.filter { tree.contains($0.name) }.map { ($0.name, $0.tensor) }) }
        return (those(of: weights), those(of: statistics))
    }
}

extension BatchFlow {
    var stored: Safetensors {
        var tensors: [String: TensorBytes] = [:]
        for (name, moments) in layers {
            let width = moments.mean.count
            tensors[name] = TensorBytes([moments.count] + moments.mean + moments.centredSquares, shape: [1 + 2 * width])
        }
        return Safetensors(tensors: tensors)
    }

    init(_ stored: Safetensors) throws(AccrueError) {
        layers = [:]
        for name in stored.tensors.keys.sorted() {
            let numbers = try stored.doubles(name, while: "reading batch statistics")
            guard numbers.count % 2 == 1 else { throw AccrueError(.corrupt, while: "reading batch statistics", "'\(name)' has \(numbers.count) numbers") }
            let width = numbers.count / 2
            layers[name] = Moments(count: numbers[0], mean: Array(numbers[1...width]), centredSquares: Array(numbers[(width + 1)...]))
        }
    }
}

/// Training-mode pass that gathers the moments of what flows into each batch norm.
private struct FlowPass: NetworkPass {
    let weights: NamedTensors
    var layers: [String: Moments]

    func affine(_ layer: Layer.Affine, _ x: Tensor) throws(AccrueError) -> Tensor {
        try layer(x, try weights.tensor(layer.weight), layer.hasBias ? try weights.tensor(layer.bias) : nil)
    }

    mutating func batchNorm(_ layer: Layer.BatchNorm, _ x: Tensor) throws(AccrueError) -> Tensor {
        let wide = try x.cast(to: .f64)
        let isImage = x.shape.count == 4
        let mean = isImage ? try wide.mean(0, 2, 3, keepDims: true) : try wide.mean(0, keepDims: true)
        let deviations = try (wide - mean).squared()
        let squares = isImage ? try deviations.sum(0, 2, 3) : try deviations.sum(0)
        let count = Double(x.elementCount / layer.features)
        layers[layer.name, default: Moments(dimension: layer.features)].merge(
            Moments(count: count, mean: try mean.doubles(), centredSquares: try squares.doubles()))
        return try x.batchNormalised(scale: try weights.tensor(layer.scale), shift: try weights.tensor(layer.shift))
    }
}
