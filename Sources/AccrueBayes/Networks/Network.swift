public import AccrueCore
public import AccrueTensor

/// A feed-forward network: layers in order, and nothing else; the weights are values of their own.
public struct Network: Equatable, Sendable {
    public let layers: [Layer]
    /// Shape of one input: [features] or [channels, height, width].
    public let inputShape: [Int]

    public init(layers: [Layer], inputShape: [Int]) {
        self.layers = layers
        self.inputShape = inputShape
    }

    public var affineLayers: [Layer.Affine] { layers.compactMap { if case .affine(let layer) = $0 { layer } else { nil } } }
    public var batchNorms: [Layer.BatchNorm] { layers.compactMap { if case .batchNorm(let layer) = $0 { layer } else { nil } } }

    /// Random weights, and those of the likelihood's own.
    public func initialWeights(with likelihood: Likelihood, key: RandomKey) throws(AccrueError) -> NamedTensors {
        NamedTensors(try likelihood.ownWeights() + initialWeights(key: key).tensors.map { ($0.name, $0.tensor) })
    }

    /// Random weights: normal with variance 2 / fan-in (He et al. 2015), biases 0, batch-norm scales 1 and shifts 0. A network of one
    /// layer starts at zero: it has no symmetry to break.
    public func initialWeights(key: RandomKey) throws(AccrueError) -> NamedTensors {
        var list: [(String, Tensor)] = []
        let isLinear = affineLayers.count == 1
        for layer in layers {
            switch layer {
            case .affine(let layer):
                let spread = isLinear ? 0 : (2 / Double(layer.fanIn)).squareRoot()
                list.append((layer.weight, try key.folding(layer.name).normal(layer.weightShape) * spread))
                if layer.hasBias { list.append((layer.bias, try .zeros([layer.outputs]))) }
            case .batchNorm(let layer):
                list.append((layer.scale, try .ones([layer.features])))
                list.append((layer.shift, try .zeros([layer.features])))
            case .relu, .maxPool, .flatten: break
            }
        }
        return NamedTensors(list)
    }

    /// Statistics of batch norms before any data: NAME.mean is 0, NAME.variance is 1.
    public func initialStatistics() throws(AccrueError) -> NamedTensors { try Self.initialStatistics(of: batchNorms) }

    /// The same of these batch norms.
    public static func initialStatistics(of norms: [Layer.BatchNorm]) throws(AccrueError) -> NamedTensors {
        var list: [(String, Tensor)] = []
        for layer in norms {
            list.append(("\(layer.name).mean", try .zeros([layer.features])))
            list.append(("\(layer.name).variance", try .ones([layer.features])))
        }
        return NamedTensors(list)
    }

    /// The statistics of all batch norms out of a tree that has them as NAME.mean and NAME.variance.
    public func statistics(_ tree: NamedTensors) throws(AccrueError) -> BatchStatistics {
        var statistics: BatchStatistics = [:]
        for layer in batchNorms { statistics[layer.name] = (try tree.tensor("\(layer.name).mean"), try tree.tensor("\(layer.name).variance")) }
        return statistics
    }

    /// Applies the layers to inputs [rows] + `inputShape`; how weights act is the pass's.
    /// - Returns: outputs [rows, outputs].
    public func apply(_ inputs: Tensor, _ pass: inout some NetworkPass) throws(AccrueError) -> Tensor {
        var x = inputs
        var index = 0
        while index < layers.count {
            if case .affine(let layer) = layers[index], layer.isPooled(by: layers[(index + 1)...].prefix(2)) {
                x = try pass.pooledConvolution(layer, x)
                index += 3
                continue
            }
            switch layers[index] {
            case .affine(let layer): x = try pass.affine(layer, x)
            case .batchNorm(let layer): x = try pass.batchNorm(layer, x)
            case .relu: x = try x.relu()
            case .maxPool(let size, let stride): x = try x.maxPooled(size, stride: stride)
            case .flatten: x = try x.reshaped([x.rowCount, -1])
            }
            index += 1
        }
        return x
    }
}

/// How the weights of a network act on what flows through it.
public protocol NetworkPass {
    mutating func affine(_ layer: Layer.Affine, _ x: Tensor) throws(AccrueError) -> Tensor
    mutating func batchNorm(_ layer: Layer.BatchNorm, _ x: Tensor) throws(AccrueError) -> Tensor
    /// A convolution with the ReLU and 2×2 max-pooling that follow it. By default one after the other: a ReLU keeps order, so it may come last,
    /// where three of four values are gone.
    mutating func pooledConvolution(_ layer: Layer.Affine, _ x: Tensor) throws(AccrueError) -> Tensor
}

extension NetworkPass {
    public mutating func pooledConvolution(_ layer: Layer.Affine, _ x: Tensor) throws(AccrueError) -> Tensor {
        try affine(layer, x).maxPooled(2, stride: 2).relu()
    }
}

extension Layer.Affine {
    /// x through the layer with this weight and bias.
    public func callAsFunction(_ x: Tensor, _ weight: Tensor, _ bias: Tensor?) throws(AccrueError) -> Tensor {
        switch kind {
        case .dense: try x.linear(weight, bias)
        case .convolution(_, let padding): try x.convolved(weight, bias, padding: padding)
        }
    }

    /// Whether this is a convolution and these are the ReLU and the 2×2 max-pooling that may be done with it at once.
    func isPooled(by next: ArraySlice<Layer>) -> Bool {
        guard case .convolution = kind else { return false }
        return next.elementsEqual([.relu, .maxPool(size: 2, stride: 2)])
    }

    func bias(of weights: NamedTensors) throws(AccrueError) -> Tensor? { hasBias ? try weights.tensor(bias) : nil }
}
