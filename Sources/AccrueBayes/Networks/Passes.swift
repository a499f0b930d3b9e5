public import AccrueCore
public import AccrueTensor

/// Batch statistics by layer: mean and biased variance, each [features].
public typealias BatchStatistics = [String: (mean: Tensor, variance: Tensor)]

/// Weights act as plain numbers; batch norms use given statistics, or the batch's own while training.
public struct PlainPass: NetworkPass, Sendable {
    let weights: NamedTensors
    let statistics: BatchStatistics

    /// - Parameter statistics: for batch norms; a layer without them uses the batch's own.
    public init(_ weights: NamedTensors, statistics: BatchStatistics = [:]) {
        self.weights = weights
        self.statistics = statistics
    }

    public func affine(_ layer: Layer.Affine, _ x: Tensor) throws(AccrueError) -> Tensor {
        try layer(x, try weights.tensor(layer.weight), try layer.bias(of: weights))
    }

    public func batchNorm(_ layer: Layer.BatchNorm, _ x: Tensor) throws(AccrueError) -> Tensor {
        try x.batchNormalised(scale: try weights.tensor(layer.scale), shift: try weights.tensor(layer.shift), statistics: statistics[layer.name])
    }

    public func pooledConvolution(_ layer: Layer.Affine, _ x: Tensor) throws(AccrueError) -> Tensor {
        guard case .convolution(_, let padding) = layer.kind else { return try affine(layer, x) }
        return try x.convolvedPooledRelu(try weights.tensor(layer.weight), try layer.bias(of: weights), padding: padding)
    }
}

/// Weights are independent Gaussians, and each output is drawn instead of each weight.
///
/// Local reparameterisation (Kingma, Salimans & Welling 2015): with m = layer(x; μ) and v = layer(x²; σ²) an output is m + √v·ζ. Exact in
/// distribution for dense layers; for convolutions exact at each position alone (one draw of the weights would correlate positions).
public struct LocalReparameterisationPass: NetworkPass {
    let mean: NamedTensors
    let variance: NamedTensors
    let key: RandomKey

    public init(mean: NamedTensors, variance: NamedTensors, key: RandomKey) {
        self.mean = mean
        self.variance = variance
        self.key = key
    }

    public func affine(_ layer: Layer.Affine, _ x: Tensor) throws(AccrueError) -> Tensor {
        if case .dense = layer.kind { return try x.linear(try gaussian(layer), key: key.folding(layer.name)) }
        let m = try layer(x, try mean.tensor(layer.weight), try layer.bias(of: mean))
        let v = try layer(try x.squared(), try variance.tensor(layer.weight), try layer.bias(of: variance))
        // 1e-16 keeps the root's gradient finite where a variance is 0.
        return try m + (try (v + 1e-16).squareRoot() * (try key.folding(layer.name).normal(m.shape)))
    }

    public func pooledConvolution(_ layer: Layer.Affine, _ x: Tensor) throws(AccrueError) -> Tensor {
        guard case .convolution(_, let padding) = layer.kind else { return try affine(layer, x) }
        return try x.convolvedPooledRelu(try gaussian(layer), padding: padding, key: key.folding(layer.name))
    }

    private func gaussian(_ layer: Layer.Affine) throws(AccrueError) -> GaussianAffine {
        GaussianAffine(
            weight: try mean.tensor(layer.weight), bias: try layer.bias(of: mean), variance: try variance.tensor(layer.weight),
            biasVariance: try layer.bias(of: variance))
    }

    public func batchNorm(_ layer: Layer.BatchNorm, _ x: Tensor) throws(AccrueError) -> Tensor {
        try x.batchNormalised(
            scale: try mean.tensor(layer.scale), shift: try mean.tensor(layer.shift))
    }
}

/// Plain weights, with a zero added to every affine layer's output (or a pooled convolution's): the gradient by that zero is the gradient of each row's own output, from which
/// per-row gradients of the weights follow.
struct TappedPass: NetworkPass {
    let weights: NamedTensors
    /// By layer; empty on a first pass that finds their shapes.
    let taps: NamedTensors
    let statistics: BatchStatistics
    /// What went into each affine layer.
    private(set) var inputs: [String: Tensor] = [:]
    /// Which positions won, of convolutions that were pooled at once.
    private(set) var winners: [String: Tensor] = [:]
    private(set) var outputShapes: [(String, [Int])] = []
    /// Convolutions are tapped before they are pooled, at every position.
    private let keepsPositions: Bool

    init(_ weights: NamedTensors, taps: NamedTensors, statistics: BatchStatistics = [:], keepsPositions: Bool = false) {
        self.weights = weights
        self.taps = taps
        self.statistics = statistics
        self.keepsPositions = keepsPositions
    }

    mutating func affine(_ layer: Layer.Affine, _ x: Tensor) throws(AccrueError) -> Tensor {
        try tap(layer, x, try layer(x, try weights.tensor(layer.weight), try layer.bias(of: weights)))
    }

    mutating func pooledConvolution(_ layer: Layer.Affine, _ x: Tensor) throws(AccrueError) -> Tensor {
        guard case .convolution(_, let padding) = layer.kind, !keepsPositions,
            let (y, winners) = try x.convolvedPooledReluWithWinners(try weights.tensor(layer.weight), try layer.bias(of: weights), padding: padding)
        else { return try affine(layer, x).maxPooled(2, stride: 2).relu() }
        self.winners[layer.name] = winners
        return try tap(layer, x, y)
    }

    private mutating func tap(_ layer: Layer.Affine, _ x: Tensor, _ y: Tensor) throws(AccrueError) -> Tensor {
        inputs[layer.name] = try x.detached()
        outputShapes.append((layer.name, y.shape))
        return taps.contains(layer.name) ? try y + (try taps.tensor(layer.name)) : y
    }

    func batchNorm(_ layer: Layer.BatchNorm, _ x: Tensor) throws(AccrueError) -> Tensor {
        if let given = statistics[layer.name] {
            return try x.batchNormalised(scale: try weights.tensor(layer.scale), shift: try weights.tensor(layer.shift), statistics: given)
        }
        throw AccrueError(
            .invalidInput, while: "squaring gradients row by row", "batch norm '\(layer.name)' makes rows depend on each other",
            hint: "use a model without batch norm")
    }
}
