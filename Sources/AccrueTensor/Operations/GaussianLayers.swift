public import AccrueCore
import CTorch

/// A layer's weights and biases as independent Gaussians, by mean and variance; biases are both there or both not.
public struct GaussianAffine: Sendable {
    public var weight: Tensor
    public var bias: Tensor?
    public var variance: Tensor
    public var biasVariance: Tensor?

    public init(weight: Tensor, bias: Tensor?, variance: Tensor, biasVariance: Tensor?) {
        self.weight = weight
        self.bias = bias
        self.variance = variance
        self.biasVariance = biasVariance
    }
}

/// Layers whose outputs are drawn instead of their weights: mean(x) + √(variance(x²) + 10⁻¹⁶) · ζ, with gradients by means, variances and inputs.
///
/// Source: Kingma, Salimans & Welling, "Variational dropout and the local reparameterization trick" (2015). F32 has kernels of its own.
extension Tensor {
    /// `self` [rows, in] through a dense layer, weight [out, in]; ζ are the key's normals [rows, out].
    public func linear(_ layer: GaussianAffine, key: RandomKey) throws(AccrueError) -> Tensor {
        try Self.result(
            "a dense layer of Gaussians", [self, layer.weight, layer.variance],
            ct_noisy_linear(handle, layer.weight.handle, layer.bias?.handle, layer.variance.handle, layer.biasVariance?.handle, key.high, key.low))
    }

    /// As `convolvedPooledRelu`, with noise at each position before it is pooled; ζ are the key's normals [rows, high, wide, 4, out] of windows and their
    /// corners.
    public func convolvedPooledRelu(_ layer: GaussianAffine, padding: Int = 0, key: RandomKey) throws(AccrueError) -> Tensor {
        try Self.result(
            "a pooled convolution of Gaussians", [self, layer.weight, layer.variance],
            ct_noisy_convolution_pool(
                handle, layer.weight.handle, layer.bias?.handle, layer.variance.handle, layer.biasVariance?.handle, Int64(padding), key.high, key.low))
    }
}
