public import AccrueCore
public import AccrueTensor
import Foundation

/// A Gamma prior over the precision τ of weights, and how τ is eliminated: with n weights that share τ, and E = Σ μ² + σ² over them, the penalty is
/// c log(E + 2b) − Σ log σ up to a constant, and τ = 2c / (E + 2b).
///
/// Source: the hierarchical priors of Kharitonov, Molchanov & Vetrov 2018 (arXiv 1811.00596). The algebra is derived here; which of the three estimators the
/// paper used is not known.
public struct GammaPrior: Equatable, Sendable {
    public enum Estimator: String, CaseIterable, Sendable {
        /// The mode of the density of τ.
        case modeOfPrecision
        /// The mode of the density of log τ.
        case modeOfLogPrecision
        /// Mean-field: q(τ) is a Gamma density of its own.
        case meanField
    }
    /// a.
    public var shape: Double
    /// b.
    public var rate: Double
    public var estimator: Estimator

    public init(shape: Double, rate: Double, estimator: Estimator) {
        self.shape = shape
        self.rate = rate
        self.estimator = estimator
    }

    /// c, for so many weights that share τ.
    public func exponent(members: Int) -> Double { Double(members) / 2 + shape - (estimator == .modeOfPrecision ? 1 : 0) }

    /// What makes the penalty a divergence: KL(q(w) ‖ p(w | τ)) − log p(τ) at the mode, or the mean-field KL of q(w) q(τ) from the prior.
    func constant(members: Int) -> Double {
        let c = exponent(members: members), own = lgamma(shape) - shape * log(rate) - Double(members) / 2
        return estimator == .meanField ? own - c * log(2) - lgamma(c) : own + c - c * log(2 * c)
    }
}

/// What makes a factorised Gaussian posterior sparse.
public enum SparsityPenalty: Equatable, Sendable {
    /// Automatic relevance determination: every prior precision at its optimum, ½ log(1 + μ²/σ²) a weight.
    /// Source: Kharitonov, Molchanov & Vetrov 2018 (arXiv 1811.00596).
    case automaticRelevance
    /// The same under a Gamma prior of the precisions.
    case hierarchical(GammaPrior)
    /// Sparse variational dropout: the log-uniform prior. Source: Molchanov, Ashukha & Vetrov 2017 (arXiv 1701.05369).
    case logUniform

    /// For the optimiser.
    /// - Parameters:
    ///   - shape: of the weights.
    ///   - dims: weights that differ in these dimensions only share a prior; none: each has its own.
    public func weightPenalty(_ shape: [Int], sharedOver dims: [Int] = []) -> WeightPenalty {
        let members = dims.reduce(1) { $0 * shape[$1] }
        let (c, b): (Double, Double)
        switch self {
        case .logUniform: return .logUniform
        case .automaticRelevance: (c, b) = (Double(members) / 2, 0)
        case .hierarchical(let gamma): (c, b) = (gamma.exponent(members: members), gamma.rate)
        }
        return dims.isEmpty ? .automatic(c: c, b: b) : .shared(c: c, b: b, over: dims)
    }

    /// Nats of each weight, of weights [any shape] with these means and log variances; a shared prior's are spread evenly over its weights.
    public func nats(mean: Tensor, logVariance: Tensor, sharedOver dims: [Int] = []) throws(AccrueError) -> Tensor {
        let log2Scale = try logVariance.clamped(-40.0...40.0)
        let members = dims.reduce(1) { $0 * mean.shape[$1] }, count = Double(members)
        func logOfSquares(_ rate: Double) throws(AccrueError) -> Tensor {
            let squares = try mean.squared() + (try log2Scale.exp())
            return try (dims.isEmpty ? squares : try squares.sum(over: dims).expanded(mean.shape)) + 2 * rate
        }
        switch self {
        case .automaticRelevance where dims.isEmpty: return try (mean.squared() * (try log2Scale.negated().exp())).log1p() * 0.5
        case .automaticRelevance: return try ((try logOfSquares(0) / count).log() - log2Scale) * 0.5
        case .hierarchical(let gamma):
            let logarithm = try logOfSquares(gamma.rate).log() * (gamma.exponent(members: members) / count)
            return try logarithm - (try log2Scale * 0.5) + gamma.constant(members: members) / count
        case .logUniform:
            let alpha = try LogAlpha.of(mean: mean, logVariance: log2Scale)
            return try (alpha.negated().softplus() * 0.5) + (try (alpha * -1.48695 - 1.87320).sigmoid() * 0.63576)
        }
    }
}
