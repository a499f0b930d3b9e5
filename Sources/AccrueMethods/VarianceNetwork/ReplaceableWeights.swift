import AccrueBayes
import AccrueCore
import AccrueTensor

/// Which random weights may be replaced by their expectations: those whose randomness the loss hardly feels.
///
///     Δᵢ = ½ σᵢ² E[∂²L/∂wᵢ²],
///
/// the second order of how much larger the expected loss of a row is with wᵢ drawn than with wᵢ at its expectation; a weight counts as replaceable when Δᵢ is
/// below τ over the number of weights. The second derivative is the true Fisher information's diagonal, averaged over draws of all weights and over rows. Exact
/// for a quadratic loss. It is derived here: the formula of the paper's first version (arXiv 1803.03764v1) was not found.
struct ReplaceableWeights {
    /// Δ by the weight's name, nats a row.
    let changes: NamedTensors

    init(changes: NamedTensors) { self.changes = changes }

    /// From second derivatives of a row's loss (or sums that stand for them).
    init(curvature: NamedTensors, variances: NamedTensors) throws(AccrueError) {
        changes = NamedTensors(
            try variances.tensors.map { (name, variance) throws(AccrueError) in
                (name, try (try curvature.tensor(name).cast(to: .f64)) * (try variance.cast(to: .f64)) * 0.5)
            })
    }

    /// Of rows, over draws of the network's weights.
    /// - Parameter inputs: F32 [rows] + the network's input shape.
    init(
        _ inputs: Tensor, network: Network, likelihood: Likelihood, statistics: BatchStatistics, variances: NamedTensors, draws: [NetworkMember], key: RandomKey
    ) throws(AccrueError) {
        var sums = try variances.map { (variance) throws(AccrueError) in try .zeros(variance.shape, dtype: .f64) }
        for (index, member) in draws.enumerated() {
            let squares = try network.squaredGradients(member.weights, inputs: inputs, statistics: statistics) { (outputs) throws(AccrueError) in
                let labels = try likelihood.draw(try outputs.detached(), weights: member.weights, key: key.folding("labels").folding(index))
                return try likelihood.loss(outputs, labels, weights: member.weights, .sum)
            }
            try sums.visit { (name, sum) throws(AccrueError) in sum = try sum + (try squares.tensor(name).cast(to: .f64)) }
        }
        let share = 1 / Double(inputs.rowCount * draws.count)
        try self.init(curvature: try sums.map { (sum) throws(AccrueError) in try sum * share }, variances: variances)
    }

    /// The variances with those of replaceable weights set to 0, and how many are.
    /// - Parameter tau: nats.
    func frozen(_ variances: NamedTensors, tau: Double) throws(AccrueError) -> (variances: NamedTensors, counts: [String: Int]) {
        let bound = tau / Double(variances.elementCount)
        var counts: [String: Int] = [:]
        var result = variances
        try result.visit { (name, variance) throws(AccrueError) in
            let isSmall = try changes.tensor(name).absolute().isBelow(bound)
            counts[name] = Int(try isSmall.cast(to: .f64).sum().item())
            variance = try isSmall.select(try variance.zerosLike(), variance)
        }
        return (result, counts)
    }
}
