public import AccrueCore

/// Stochastic gradient descent with (Nesterov) momentum and L2 weight decay, in the form common libraries use.
public struct MomentumDescent<Weights: TensorTree>: Optimiser {
    /// b ← μ b + g.
    public var velocity: Weights
    public let momentum: Double
    public let nesterov: Bool
    public let weightDecay: Double

    /// At rest. `momentum` is μ, `weightDecay` is added to the gradient as decay · weight.
    public init(for weights: Weights, momentum: Double = 0.9, nesterov: Bool = false, weightDecay: Double = 0) throws(AccrueError) {
        self.init(velocity: try weights.zeros(), momentum: momentum, nesterov: nesterov, weightDecay: weightDecay)
    }

    /// With a velocity that has travelled.
    public init(velocity: Weights, momentum: Double, nesterov: Bool = false, weightDecay: Double = 0) {
        self.velocity = velocity
        self.momentum = momentum
        self.nesterov = nesterov
        self.weightDecay = weightDecay
    }

    /// One step down the gradient (of the loss without the decay's part).
    public mutating func update(_ weights: inout Weights, gradient: Weights, rate: Double) throws(AccrueError) {
        let (momentum, nesterov, weightDecay) = (momentum, nesterov, weightDecay)
        let decayed = weightDecay == 0 ? gradient : try gradient.zip(weights) { (g, w) throws(AccrueError) in try g + w[0] * weightDecay }
        velocity = try velocity.zip(decayed) { (b, g) throws(AccrueError) in try b * momentum + g[0] }
        let direction = nesterov ? try decayed.zip(velocity) { (g, b) throws(AccrueError) in try g + b[0] * momentum } : velocity
        weights = try weights.zip(direction) { (w, d) throws(AccrueError) in try w - d[0] * rate }
    }
}
