public import AccrueCore
public import AccrueTensor

extension Network {
    /// Σ over rows of each row's squared gradient of a loss, weight by weight: the diagonal of the Fisher information when the loss is −log p of labels
    /// that were drawn from the model.
    ///
    /// Dense layers: Σₙ (δₙ²)ᵀ(aₙ²). Convolutions: each row's gradient from its patches, squared, summed. Never (Σₙ gₙ)².
    /// Source: incremental learning by a Laplace approximation, Kochurov et al. 2018 (arXiv 1802.07329), as this project reads it.
    ///
    /// - Parameters:
    ///   - statistics: of batch norms; with a batch's own, rows would depend on each other.
    ///   - loss: the sum over rows of the rows' losses, from outputs [rows, outputs]; rows must not depend on each other.
    /// - Throws: `invalidInput` for batch norms without statistics.
    public func squaredGradients(
        _ weights: NamedTensors, inputs: Tensor, statistics: BatchStatistics = [:], loss: (Tensor) throws(AccrueError) -> Tensor
    ) throws(AccrueError) -> NamedTensors {
        let (gradients, seen) = try tapped(weights, inputs: inputs, statistics: statistics, loss)
        var result: [(String, Tensor)] = []
        for layer in affineLayers {
            guard let input = seen.inputs[layer.name] else { continue }
            let delta = try gradients.tensor(layer.name)
            switch layer.kind {
            case .dense:
                let squares = try delta.squared()
                result.append((layer.weight, try squares.transposed().matmul(try input.squared())))
                if layer.hasBias { result.append((layer.bias, try squares.sum(0))) }
            case .convolution(let kernel, let padding):
                if let winners = seen.winners[layer.name] {
                    let squares = try input.pooledSquares(winners: winners, slope: delta, kernel: kernel, padding: padding)
                    result.append((layer.weight, squares.weight))
                    if layer.hasBias { result.append((layer.bias, squares.bias)) }
                    continue
                }
                let each = try layer.eachGradient(delta, input, kernel: kernel, padding: padding)
                result.append((layer.weight, try each.weight.squared().sum(0)))
                if layer.hasBias { result.append((layer.bias, try each.bias.squared().sum(0))) }
            }
        }
        return NamedTensors(result)
    }
}
