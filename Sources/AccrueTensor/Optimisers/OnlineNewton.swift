public import AccrueCore
import CTorch
import Foundation

/// Independent Gaussians by mean and Hessian h: the precision is count · (h + damping), by the numbers of the optimiser that moves them.
public struct HessianGaussian<Weights: TensorTree>: TensorTree {
    public var mean: Weights
    public var hessian: Weights

    public init(mean: Weights, hessian: Weights) {
        self.mean = mean
        self.hessian = hessian
    }

    public mutating func visit(_ body: (String, inout Tensor) throws(AccrueError) -> Void) throws(AccrueError) {
        try mean.visit { (name, tensor) throws(AccrueError) in try body("mean.\(name)", &tensor) }
        try hessian.visit { (name, tensor) throws(AccrueError) in try body("hessian.\(name)", &tensor) }
    }
}

/// Variational online Newton (IVON): natural-gradient descent on E_q[loss] + KL(q ‖ prior) / count over independent Gaussians q = N(m, P⁻¹), where
/// P = count · (h + δ). Gradients are taken at draws w from q, one a step; a step and the next draw are one pass over the parameters.
///
///     ĥ = g · (w − m) · P                                the Hessian's estimate by reparameterisation: E_q ĥ = E_q ∇²loss (Stein's identity)
///     a = (1 − β₂)(ĥ − h),  h ← h + a + a² / 2(h + δ)    h + δ is at least halved, never negative; held at ε δ
///     ḡ ← β₁ ḡ + (1 − β₁) g
///     m ← m − rate · cut((ḡ / (1 − β₁ᵗ) + δ (m − m₀)) / (h + δ), ±longest)
///
/// The prior is N(m₀, (count · δ)⁻¹), weight by weight. The squared term keeps h + δ positive and raises h by about (1 − β₂) Var(ĥ) / 2(h + δ).
/// Steps are cut because weights pull together: where many do, the step that is right for each alone is far too long for all.
///
/// Source: Shen et al., "Variational learning is effective for large deep networks" (ICML 2024, arXiv 2402.17641), Algorithm 1; Khan & Rue, "The Bayesian
/// learning rule" (2023). A prior with a mean and a precision of its own for each weight, and the bound ε δ, are this project's.
public struct OnlineNewton<Weights: TensorTree>: Optimiser {
    public private(set) var posterior: HessianGaussian<Weights>
    /// Running mean of the gradient.
    public private(set) var momentum: Weights
    /// Steps taken since the momentum was zero.
    public private(set) var steps: Int
    /// m₀ and δ.
    public let prior: (mean: Weights, damping: Weights)
    public let settings: OnlineNewtonSettings
    private let key: RandomKey

    /// - Parameters:
    ///   - momentum, steps: zeros and 0, or what has travelled.
    ///   - key: of all draws; a draw depends on it, on `steps` and on the tensor's name.
    public init(
        _ posterior: HessianGaussian<Weights>, momentum: Weights, steps: Int, prior: (mean: Weights, damping: Weights), settings: OnlineNewtonSettings,
        key: RandomKey
    ) {
        self.posterior = posterior
        self.momentum = momentum
        self.steps = steps
        self.prior = prior
        self.settings = settings
        self.key = key
    }

    /// Weights drawn from where it stands: where the first gradient is to be taken. Later draws are those that `update` leaves.
    public func draw() throws(AccrueError) -> Weights {
        let key = key.folding(steps), hessians = posterior.hessian.tensors, dampings = prior.damping.tensors
        var list: [Tensor] = []
        for (index, (name, mean)) in posterior.mean.tensors.enumerated() {
            let precision = try (hessians[index].tensor + dampings[index].tensor) * settings.count
            list.append(try key.folding(name).draw(mean: mean, deviation: try precision.reciprocalSquareRoot()))
        }
        return try posterior.mean.replacing(list)
    }

    /// One step, from the gradient at the weights that it or `draw` left; leaves the next draw.
    /// - Throws: `invalidInput` when the gradient is not of the weights' shapes, or not F32.
    public mutating func update(_ weights: inout Weights, gradient: Weights, rate: Double) throws(AccrueError) {
        steps += 1
        let key = key.folding(steps)
        var step = ct_newton(
            rate: rate, beta1: settings.beta1, correction: 1 - pow(settings.beta1, Double(steps)), gain: 1 - settings.beta2, count: settings.count,
            floor: settings.floor, longest: settings.longest)
        let named = weights.tensors
        let lists = [weights, gradient, posterior.mean, posterior.hessian, momentum, prior.mean, prior.damping].map(\.tensors)
        var updated = [[Tensor]](repeating: [], count: 4)
        for index in named.indices {
            let o = lists.map { $0[index].tensor }, own = key.folding(named[index].name)
            var operands = ct_drawn(
                draw: o[0].handle, gradient: o[1].handle, mean: o[2].handle, hessian: o[3].handle, momentum: o[4].handle, centre: o[5].handle,
                damping: o[6].handle)
            var out = [ct_tensor?](repeating: nil, count: 4)
            let status = ct_newton_step(&step, &operands, own.high, own.low, &out)
            for part in 0..<4 { updated[part].append(try Tensor.result("an online Newton step", o, status == 0 ? out[part] : nil)) }
        }
        weights = try weights.replacing(updated[0])
        posterior = HessianGaussian(mean: try posterior.mean.replacing(updated[1]), hessian: try posterior.hessian.replacing(updated[2]))
        momentum = try momentum.replacing(updated[3])
    }

    /// Means and Hessians, not the draws; with the Hessians, precisions are averaged.
    public func averaged(_ weights: Weights) -> HessianGaussian<Weights> { posterior }
}

/// The constants of an online Newton method.
public struct OnlineNewtonSettings: Equatable, Sendable {
    /// β₁, of the gradient.
    public var beta1: Double
    /// β₂, of the Hessian.
    public var beta2: Double
    /// Rows over temperature: what h + δ, a row's, is multiplied by to be the precision.
    public var count: Double
    /// ε: the share of δ at which h + δ is held.
    public var floor: Double
    /// The longest step of a mean, before it is multiplied by the rate.
    public var longest: Double

    public init(beta1: Double = 0.9, beta2: Double, count: Double, floor: Double = 0.05, longest: Double = .infinity) {
        self.beta1 = beta1
        self.beta2 = beta2
        self.count = count
        self.floor = floor
        self.longest = longest
    }
}
