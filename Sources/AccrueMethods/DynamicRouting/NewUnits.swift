import AccrueBayes
import AccrueCore
import AccrueTensor

/// Units that are appended to a stage's set without changing what the network says: their last norm has scale and shift 0, so their residual is 0, and the
/// controller's row for them is 0 with bias −4, so they are rarely chosen. The other units' soft shares shrink by the factor 1 − r of the new; hard routes
/// stay wherever the largest logit was above −4.
struct NewUnits {
    private let network: RoutedNetwork
    static let bias = -4.0

    init(_ network: RoutedNetwork) { self.network = network }

    /// A state of the same network with fewer units a stage, grown to this one's.
    /// - Parameter fresh: a first state of this network, for the new units' convolutions.
    /// - Throws: `invalidInput` when something else than the number of units differs.
    func appended(to old: DynamicRouting.State, fresh: DynamicRouting.State) throws(AccrueError) -> DynamicRouting.State {
        var result = old
        result.weights = try weights(old.weights, fresh.weights)
        if network.isFixed { return result }
        result.hard = try WeightsFromOutside.appended(old.hard, fresh.hard)
        result.soft = try WeightsFromOutside.appended(old.soft, fresh.soft)
        // What was counted was of other choices.
        if !old.usage.fits(network) { result.usage = RouteUsage(network) }
        return result
    }

    private func weights(_ old: NamedTensors, _ fresh: NamedTensors) throws(AccrueError) -> NamedTensors {
        var rest: [(String, Tensor)] = []
        for (name, tensor) in fresh.tensors {
            guard old.contains(name), try old.tensor(name).shape != tensor.shape else { rest.append((name, tensor)); continue }
            let stage = network.stages.first { name.hasPrefix("\($0.name).") }
            switch name {
            case let name where stage != nil && !network.skip && (name.contains(".units.norm2.") || name.hasSuffix(".choice.weight")):
                rest.append((name, try tensor.zerosLike()))
            case let name where stage != nil && !network.skip && name.hasSuffix(".choice.bias"): rest.append((name, try .full(tensor.shape, Self.bias)))
            case let name where stage != nil && !network.skip && name.contains(".units."): rest.append((name, tensor))
            default:
                throw AccrueError(
                    .invalidInput, while: "importing a posterior", "tensor '\(name)' has shape \(try old.tensor(name).shape); this pipeline's has \(tensor.shape)",
                    hint: network.skip ? "a network that may skip takes no new units" : "only settings.model.units may grow")
            }
        }
        return try WeightsFromOutside.appended(old, NamedTensors(rest))
    }
}
