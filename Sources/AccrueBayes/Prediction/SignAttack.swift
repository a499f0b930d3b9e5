public import AccrueCore
public import AccrueTensor

/// An attack on predictions: inputs are moved, by at most `epsilon` each number, to where the averaged prediction of the members has a larger loss.
///
///     x′ = clip(x + ε sign ∇ₓ(−log 1/S Σ p(y | x, wₛ)))
///
/// The gradient is that of the average: with one draw of many it is noise, and what withstands it is not robust. Source: Goodfellow, Shlens & Szegedy 2015
/// (FGSM, arXiv 1412.6572); several steps of ε/steps each, kept within ε: Kurakin, Goodfellow & Bengio 2017.
public struct SignAttack: Sendable {
    /// In units of the network's inputs, after the schema's transform.
    public var epsilon: Double
    public var steps: Int
    /// Where inputs stay.
    public var range: ClosedRange<Double>

    public init(epsilon: Double, steps: Int = 1, range: ClosedRange<Double>) {
        self.epsilon = epsilon
        self.steps = steps
        self.range = range
    }

    /// Inputs [rows] + the network's input shape, moved.
    /// - Parameter members: whose average is attacked; at least one.
    public func attacked(
        _ inputs: Tensor, _ targets: Tensor, network: Network, likelihood: Likelihood, members: [NetworkMember]
    ) throws(AccrueError) -> Tensor {
        var x = inputs
        for _ in 0..<steps where epsilon > 0 {
            let (_, slope) = try valueAndGradient(at: NamedTensors([("inputs", x)])) { (leaf) throws(AccrueError) in
                try network.logDensities(try leaf.tensor("inputs"), targets, likelihood: likelihood, members: members).sum().negated()
            }
            x = try x + (try slope.tensor("inputs").sign() * (epsilon / Double(steps)))
            x = try x.maximum(try inputs - epsilon).minimum(try inputs + epsilon).clamped(range)
        }
        return x
    }
}

extension Network {
    /// log 1/S Σ p(target | x, wₛ) of each row, nats: [rows].
    public func logDensities(_ inputs: Tensor, _ targets: Tensor, likelihood: Likelihood, members: [NetworkMember]) throws(AccrueError) -> Tensor {
        var each: [Tensor] = []
        for member in members {
            each.append(try likelihood.loss(try outputs(inputs, member), targets, weights: member.weights, .none).negated())
        }
        return try Tensor.stacked(each).logSumExp(0) - logarithm(Double(members.count))
    }
}
