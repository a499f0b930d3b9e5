public import AccrueCore
public import AccrueTensor

/// log α = log σ² − log μ²: how far a weight's noise stands above its mean. Weights of large α are removed.
public enum LogAlpha {
    /// log σ² − log(μ² + 10⁻⁸).
    public static func of(mean: Tensor, logVariance: Tensor) throws(AccrueError) -> Tensor { try logVariance - (try (mean.squared() + 1e-8).log()) }

    /// Of all weights of a network, biases left out, by their names.
    /// - Parameter logScale: log σ.
    public static func of(_ network: Network, mean: NamedTensors, logScale: NamedTensors) throws(AccrueError) -> NamedTensors {
        var list: [(String, Tensor)] = []
        for layer in network.affineLayers {
            list.append((layer.weight, try of(mean: try mean.tensor(layer.weight), logVariance: try logScale.tensor(layer.weight) * 2)))
        }
        return NamedTensors(list)
    }

    /// The weights with zeros where log α is at the threshold or above; weights without log α stay.
    public static func pruned(_ weights: NamedTensors, _ logAlpha: NamedTensors, threshold: Double) throws(AccrueError) -> NamedTensors {
        var list: [(String, Tensor)] = []
        for (name, tensor) in weights.tensors {
            guard logAlpha.contains(name) else { list.append((name, tensor)); continue }
            let kept = try logAlpha.tensor(name).isBelow(threshold)
            list.append((name, try kept.select(tensor, try tensor.zerosLike())))
        }
        return NamedTensors(list)
    }
}
