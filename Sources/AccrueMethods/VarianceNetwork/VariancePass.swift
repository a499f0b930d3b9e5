import AccrueBayes
import AccrueCore
import AccrueTensor

/// Another pass in which some layers' weights have mean zero: such a layer is b + √(σ² applied to x² + 10⁻¹²) · ζ, ζ standard normal, one a row and output.
///
/// For dense layers exact in distribution: with σ zeta-weighted weights drawn for each row it is the same. For convolutions each position has noise of its own,
/// which is another model than one drawn kernel: the same in training and in predictions. Source: Neklyudov, Molchanov, Ashukha & Vetrov 2019
/// (arXiv 1803.03764), layers.py of its code.
struct VariancePass<Inner: NetworkPass>: NetworkPass {
    private(set) var inner: Inner
    /// Biases of the layers.
    private let weights: NamedTensors
    /// σ² by the weight's name.
    private let variances: NamedTensors
    private let key: RandomKey
    private let isShared: Bool

    /// Keeps the root's gradient finite where a variance is 0.
    static var floor: Double { 1e-12 }

    /// - Parameter isShared: all rows have the same ζ, so that a key is one function; otherwise each has its own.
    init(_ inner: Inner, weights: NamedTensors, variances: NamedTensors, key: RandomKey, isShared: Bool) {
        self.inner = inner
        self.weights = weights
        self.variances = variances
        self.key = key
        self.isShared = isShared
    }

    mutating func affine(_ layer: Layer.Affine, _ x: Tensor) throws(AccrueError) -> Tensor {
        guard variances.contains(layer.weight) else { return try inner.affine(layer, x) }
        let spread = try (try layer(try x.squared(), try variances.tensor(layer.weight), nil) + Self.floor).squareRoot()
        let noise = try key.folding(layer.name).normal([isShared ? 1 : x.rowCount] + spread.shape.dropFirst(), dtype: x.dtype)
        let y = try spread * noise
        guard layer.hasBias else { return y }
        let bias = try weights.tensor(layer.bias)
        return try y + (spread.shape.count == 4 ? try bias.reshaped([1, -1, 1, 1]) : bias)
    }

    mutating func pooledConvolution(_ layer: Layer.Affine, _ x: Tensor) throws(AccrueError) -> Tensor {
        guard variances.contains(layer.weight) else { return try inner.pooledConvolution(layer, x) }
        return try affine(layer, x).maxPooled(2, stride: 2).relu()
    }

    mutating func batchNorm(_ layer: Layer.BatchNorm, _ x: Tensor) throws(AccrueError) -> Tensor { try inner.batchNorm(layer, x) }
}
