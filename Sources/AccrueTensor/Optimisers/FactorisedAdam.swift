public import AccrueCore
import CTorch

/// Independent Gaussians by mean and log standard deviation. As a gradient: by mean and by **variance**, which is what layers of Gaussians give.
public struct FactorisedGaussian<Weights: TensorTree>: TensorTree {
    public var mean: Weights
    public var logScale: Weights

    public init(mean: Weights, logScale: Weights) {
        self.mean = mean
        self.logScale = logScale
    }

    public mutating func visit(_ body: (String, inout Tensor) throws(AccrueError) -> Void) throws(AccrueError) {
        try mean.visit { (name, tensor) throws(AccrueError) in try body("mean.\(name)", &tensor) }
        try logScale.visit { (name, tensor) throws(AccrueError) in try body("logScale.\(name)", &tensor) }
    }
}

extension Tensor {
    /// σ² = exp(2 log σ) of log standard deviations (F32), which are moved into the range first. No gradient is recorded.
    public func variance(logScaleIn range: ClosedRange<Double>) throws(AccrueError) -> Tensor {
        try Self.result("variances", [self], ct_variance(handle, range.lowerBound, range.upperBound))
    }
}

/// Adam on means and log standard deviations, down an expected loss plus `share` · KL(q ‖ prior), in one pass over the parameters.
///
/// Gradients are the loss's by mean and by variance, g and h. The step's are g + share · (μ − μ₀)/σ₀² and 2σ²h + share · (exp(2(log σ − log σ₀)) − 1);
/// where log σ is outside its range the loss has no part in it.
public struct FactorisedAdam<Weights: TensorTree>: Optimiser {
    public typealias Gaussian = FactorisedGaussian<Weights>

    /// Running means of the gradient and of its square.
    public private(set) var first: Gaussian
    public private(set) var second: Gaussian
    /// Steps taken.
    public private(set) var steps = 0
    public let prior: Gaussian
    /// Nats of divergence count this much.
    public let share: Double
    public let logScaleRange: ClosedRange<Double>
    public let settings: AdamSettings

    /// With zero moments.
    public init(prior: Gaussian, share: Double, logScaleRange: ClosedRange<Double>, settings: AdamSettings = AdamSettings()) throws(AccrueError) {
        first = try prior.zeros()
        second = try prior.zeros()
        self.prior = prior
        self.share = share
        self.logScaleRange = logScaleRange
        self.settings = settings
    }

    /// One step.
    /// - Throws: `invalidInput` when the gradient is not of the weights' shapes, or not F32.
    public mutating func update(_ weights: inout Gaussian, gradient: Gaussian, rate: Double) throws(AccrueError) {
        steps += 1
        var step = settings.step(steps, rate: rate)
        let lists = [weights, gradient, prior, first, second]
        let means = lists.map(\.mean.tensors), scales = lists.map(\.logScale.tensors)
        var updated = [[Tensor]](repeating: [], count: 6)
        for index in means[0].indices {
            let m = means.map { $0[index].tensor }, s = scales.map { $0[index].tensor }
            var operands = ct_factorised(
                mean: m[0].handle, log_scale: s[0].handle, by_mean: m[1].handle, by_variance: s[1].handle, prior_mean: m[2].handle,
                prior_log_scale: s[2].handle, mean_first: m[3].handle, mean_second: m[4].handle, scale_first: s[3].handle, scale_second: s[4].handle,
                share: share, low: logScaleRange.lowerBound, high: logScaleRange.upperBound)
            var out = [ct_tensor?](repeating: nil, count: 6)
            let status = ct_factorised_adam_step(&step, &operands, &out)
            for part in 0..<6 { updated[part].append(try Tensor.result("a step of Adam", m + s, status == 0 ? out[part] : nil)) }
        }
        weights = Gaussian(mean: try weights.mean.replacing(updated[0]), logScale: try weights.logScale.replacing(updated[1]))
        first = Gaussian(mean: try first.mean.replacing(updated[2]), logScale: try first.logScale.replacing(updated[4]))
        second = Gaussian(mean: try second.mean.replacing(updated[3]), logScale: try second.logScale.replacing(updated[5]))
    }
}
