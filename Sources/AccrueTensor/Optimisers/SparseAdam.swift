public import AccrueCore
import CTorch

/// What keeps independent Gaussians q = N(μ, σ²) over weights near zero, in nats a weight; E = μ² + σ².
public enum WeightPenalty: Equatable, Sendable {
    /// KL(q ‖ N(0, 1/precision)): a prior that stays.
    case gaussian(precision: Double)
    /// c log(E + 2b) − log σ: KL under a Gaussian prior of each weight's own, whose precision 2c / (E + 2b) is the best for q.
    case automatic(c: Double, b: Double)
    /// c log(ΣE + 2b) − Σ log σ over weights that share a prior: those that differ in these dimensions only.
    case shared(c: Double, b: Double, over: [Int])
    /// KL under the improper prior 1/|w|, by its approximation: ½ softplus(−a) + k₁ sigmoid(−k₂ − k₃ a), a = log σ² − log(μ² + 10⁻⁸), k = (0.63576, 1.87320,
    /// 1.48695). Source: Molchanov, Ashukha & Vetrov 2017 (arXiv 1701.05369).
    case logUniform
}

/// Quadratic terms ½ λ (μ² + σ²) − η μ: what other data said of weights, as Gaussian factors of their likelihood.
public struct QuadraticSites<Weights: TensorTree>: Sendable {
    /// λ, not negative.
    public var precision: Weights
    /// η.
    public var precisionMean: Weights

    public init(precision: Weights, precisionMean: Weights) {
        self.precision = precision
        self.precisionMean = precisionMean
    }
}

/// Adam on means and log standard deviations, down an expected loss plus `share` · (sites + weight · penalties), in one pass over the parameters.
///
/// Gradients are the loss's by mean and by variance, g and h. The step's are g + share · (λμ − η + weight · ∂R/∂μ) and 2σ²h + share · (λσ² + weight ·
/// ∂R/∂log σ); where log σ is outside its range the loss has no part in it.
public struct SparseAdam<Weights: TensorTree>: Optimiser {
    public typealias Gaussian = FactorisedGaussian<Weights>

    /// Running means of the gradient and of its square.
    public private(set) var first: Gaussian
    public private(set) var second: Gaussian
    /// Steps taken.
    public private(set) var steps: Int
    /// By tensor; without one: none.
    public let penalties: [String: WeightPenalty]
    public let sites: QuadraticSites<Weights>?
    /// Nats of penalties and sites count this much.
    public let share: Double
    /// What the penalties are multiplied by, by step.
    public let weight: Schedule
    public let logScaleRange: ClosedRange<Double>
    public let settings: AdamSettings

    /// With moments that have travelled: `steps` is how many made them.
    public init(
        first: Gaussian, second: Gaussian, steps: Int, penalties: [String: WeightPenalty], sites: QuadraticSites<Weights>?, share: Double,
        weight: Schedule = .constant(1), logScaleRange: ClosedRange<Double>, settings: AdamSettings = AdamSettings()
    ) {
        self.first = first
        self.second = second
        self.steps = steps
        self.penalties = penalties
        self.sites = sites
        self.share = share
        self.weight = weight
        self.logScaleRange = logScaleRange
        self.settings = settings
    }

    /// One step.
    /// - Throws: `invalidInput` when the gradient is not of the weights' shapes, or not F32.
    public mutating func update(_ weights: inout Gaussian, gradient: Gaussian, rate: Double) throws(AccrueError) {
        let weight = self.weight.rate(at: Double(steps))
        steps += 1
        var step = settings.step(steps, rate: rate)
        let lists = [weights, gradient, first, second]
        let means = lists.map(\.mean.tensors), scales = lists.map(\.logScale.tensors)
        let sitePrecisions = sites?.precision.tensors, siteMeans = sites?.precisionMean.tensors
        var updated = [[Tensor]](repeating: [], count: 6)
        for index in means[0].indices {
            let m = means.map { $0[index].tensor }, s = scales.map { $0[index].tensor }
            let term = penalties[means[0][index].name]
            let shared = try term?.precision(mean: m[0], logScale: s[0])
            var operands = ct_sparse(
                mean: m[0].handle, log_scale: s[0].handle, by_mean: m[1].handle, by_variance: s[1].handle, mean_first: m[2].handle, mean_second: m[3].handle,
                scale_first: s[2].handle, scale_second: s[3].handle, precision: shared?.handle, site_precision: sitePrecisions?[index].tensor.handle,
                site_precision_mean: siteMeans?[index].tensor.handle, penalty: 0, a: 0, b: 0, share: share, weight: term == nil ? 0 : weight,
                low: logScaleRange.lowerBound, high: logScaleRange.upperBound)
            term?.fill(&operands)
            var out = [ct_tensor?](repeating: nil, count: 6)
            let status = ct_sparse_adam_step(&step, &operands, &out)
            withExtendedLifetime(shared) {}
            for part in 0..<6 { updated[part].append(try Tensor.result("a step of Adam", m + s, status == 0 ? out[part] : nil)) }
        }
        weights = Gaussian(mean: try weights.mean.replacing(updated[0]), logScale: try weights.logScale.replacing(updated[1]))
        first = Gaussian(mean: try first.mean.replacing(updated[2]), logScale: try first.logScale.replacing(updated[4]))
        second = Gaussian(mean: try second.mean.replacing(updated[3]), logScale: try second.logScale.replacing(updated[5]))
    }
}

extension WeightPenalty {
    /// The best precisions of shared priors at q, a number a weight; nil for other penalties.
    fileprivate func precision(mean: Tensor, logScale: Tensor) throws(AccrueError) -> Tensor? {
        guard case .shared(let c, let b, let dims) = self else { return nil }
        let squares = try mean.squared() + (try (logScale * 2).exp())
        return try (try squares.sum(over: dims) + 2 * b).reciprocal().expanded(mean.shape) * (2 * c)
    }

    fileprivate func fill(_ operands: inout ct_sparse) {
        switch self {
        case .gaussian(let precision): (operands.penalty, operands.a) = (Int32(CT_PENALTY_GAUSSIAN.rawValue), precision)
        case .shared: operands.penalty = Int32(CT_PENALTY_GAUSSIAN.rawValue)
        case .automatic(let c, let b): (operands.penalty, operands.a, operands.b) = (Int32(CT_PENALTY_AUTOMATIC.rawValue), 2 * c, 2 * b)
        case .logUniform: operands.penalty = Int32(CT_PENALTY_LOG_UNIFORM.rawValue)
        }
    }
}
