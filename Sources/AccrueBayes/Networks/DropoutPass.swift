public import AccrueCore
public import AccrueTensor

/// Another pass with dropout: what goes into each ReLU is multiplied by 0 with probability `rate`, else by 1/(1 − rate). (A ReLU keeps factors that are
/// not negative, so this is dropout of what comes out of it.)
///
/// Source: Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting" (2014); drawn anew for each prediction: Gal & Ghahramani,
/// "Dropout as a Bayesian approximation" (2016).
public struct DropoutPass<Inner: NetworkPass>: NetworkPass {
    public private(set) var inner: Inner
    private let dropped: Set<String>
    private let rate: Double
    private let key: RandomKey
    private let isShared: Bool

    /// - Parameters:
    ///   - layers: names of the affine layers behind whose ReLUs units are dropped; nil: all that have one.
    ///   - rate: from 0 to below 1.
    ///   - isShared: all rows have the same units dropped, so that a key is one network; otherwise each has its own.
    public init(_ inner: Inner, network: Network, behind layers: [String]? = nil, rate: Double, key: RandomKey, isShared: Bool) {
        self.inner = inner
        self.rate = rate
        self.key = key.folding("dropout")
        self.isShared = isShared
        dropped = network.beforeReLU(behind: layers)
    }

    public mutating func affine(_ layer: Layer.Affine, _ x: Tensor) throws(AccrueError) -> Tensor {
        try dropping(layer.name, try inner.affine(layer, x))
    }

    public mutating func batchNorm(_ layer: Layer.BatchNorm, _ x: Tensor) throws(AccrueError) -> Tensor {
        try dropping(layer.name, try inner.batchNorm(layer, x))
    }

    /// Units are dropped before the pooling, so at once only where none are.
    public mutating func pooledConvolution(_ layer: Layer.Affine, _ x: Tensor) throws(AccrueError) -> Tensor {
        guard rate > 0, dropped.contains(layer.name) else { return try inner.pooledConvolution(layer, x) }
        return try affine(layer, x).maxPooled(2, stride: 2).relu()
    }

    private func dropping(_ name: String, _ y: Tensor) throws(AccrueError) -> Tensor {
        guard rate > 0, dropped.contains(name) else { return y }
        let kept = try key.folding(name).uniform([isShared ? 1 : y.rowCount] + y.shape.dropFirst()).isBelow(1 - rate)
        return try y * (try kept.cast(to: y.dtype) * (1 / (1 - rate)))
    }
}

extension Network {
    /// Names of the layers whose outputs go straight into a ReLU, an affine layer's or that of the batch norm that follows it.
    /// - Parameter named: affine layers; nil: all.
    func beforeReLU(behind named: [String]?) -> Set<String> {
        var names: Set<String> = [], behind: String?
        for (layer, next) in zip(layers, layers.dropFirst()) {
            switch layer {
            case .affine(let affine): behind = affine.name
            case .batchNorm: break
            case .relu, .maxPool, .flatten: behind = nil
            }
            guard next == .relu, let affine = behind, named?.contains(affine) ?? true else { continue }
            if case .batchNorm(let norm) = layer { names.insert(norm.name) } else { names.insert(affine) }
        }
        return names
    }
}
