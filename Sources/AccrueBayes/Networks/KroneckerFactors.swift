public import AccrueCore
public import AccrueTensor

/// The two factors of a layer's Fisher information, summed over rows: (inputs ⊗ slopes) / rows, over the weights [outputs, numbers in] and, as one more
/// number in that is always 1, the biases.
public struct KroneckerFactors: Sendable {
    /// Σ over rows (and positions of a convolution) of a aᵀ, a what goes in: [numbers in, numbers in].
    public var inputs: Tensor
    /// Σ over rows (mean over positions) of s sᵀ, s the slope of what comes out: [outputs, outputs].
    public var slopes: Tensor
}

extension Network {
    /// Kronecker factors of every layer, by the layer's name.
    ///
    /// Exact for dense layers whose inputs and slopes are independent; for convolutions it is also assumed that positions are alike and their slopes
    /// uncorrelated.
    /// Source: Martens & Grosse 2015 (K-FAC, arXiv 1503.05671), Grosse & Martens 2016 (convolutions, arXiv 1602.01407).
    /// - Parameter function: a sum over rows, from outputs [rows, outputs]; rows must not depend on each other.
    /// - Throws: `invalidInput` for networks with batch norms.
    public func kroneckerFactors(
        _ weights: NamedTensors, inputs: Tensor, of function: (Tensor) throws(AccrueError) -> Tensor
    ) throws(AccrueError) -> [String: KroneckerFactors] {
        let (gradients, seen) = try tapped(weights, inputs: inputs, keepsPositions: true, function)
        var result: [String: KroneckerFactors] = [:]
        for layer in affineLayers {
            guard var into = seen.inputs[layer.name] else { continue }
            var slope = try gradients.tensor(layer.name)
            var positions = 1
            if case .convolution(let kernel, let padding) = layer.kind {
                into = try into.unfolded(kernel, padding: padding).permuted([0, 2, 1]).reshaped([-1, layer.fanIn])
                slope = try slope.permuted([0, 2, 3, 1]).reshaped([-1, layer.outputs])
                positions = slope.rowCount / inputs.rowCount
            }
            if layer.hasBias { into = try .concatenated([into, try .full([into.rowCount, 1], 1)], dim: 1) }
            result[layer.name] = KroneckerFactors(
                inputs: try into.transposed().matmul(into), slopes: try (try slope.transposed().matmul(slope)) * (1 / Double(positions)))
        }
        return result
    }
}
