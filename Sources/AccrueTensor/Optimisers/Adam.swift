public import AccrueCore
import CTorch
import Foundation

/// Adam (Kingma & Ba 2015): a value with its two moments, so that it can travel, be averaged and be stored.
public struct Adam<Weights: TensorTree>: Sendable {
    /// Running means of the gradient and of its square.
    public var first: Weights
    public var second: Weights
    /// Steps taken.
    public var steps: Int
    public let beta1: Double
    public let beta2: Double
    public let epsilon: Double

    /// With zero moments.
    public init(for weights: Weights, beta1: Double = 0.9, beta2: Double = 0.999, epsilon: Double = 1e-8) throws(AccrueError) {
        self.init(first: try weights.zeros(), second: try weights.zeros(), steps: 0, beta1: beta1, beta2: beta2, epsilon: epsilon)
    }

    public init(first: Weights, second: Weights, steps: Int, beta1: Double = 0.9, beta2: Double = 0.999, epsilon: Double = 1e-8) {
        self.first = first
        self.second = second
        self.steps = steps
        self.beta1 = beta1
        self.beta2 = beta2
        self.epsilon = epsilon
    }

    /// One step down the gradient.
    /// - Throws: `invalidInput` when the gradient is not of the weights' shapes, or not F32.
    public mutating func update(_ weights: inout Weights, gradient: Weights, rate: Double) throws(AccrueError) {
        steps += 1
        let rate = rate / (1 - pow(beta1, Double(steps))), correction = 1 - pow(beta2, Double(steps))
        let all = (weights.tensors, gradient.tensors, first.tensors, second.tensors)
        var updated: [[Tensor]] = [[], [], []]
        for index in all.0.indices {
            let operands = [all.0[index].tensor, all.1[index].tensor, all.2[index].tensor, all.3[index].tensor]
            var out: [ct_tensor?] = [nil, nil, nil]
            let status = ct_adam_step(
                operands[0].handle, operands[1].handle, operands[2].handle, operands[3].handle, rate, beta1, beta2, correction, epsilon, &out)
            for part in 0..<3 { updated[part].append(try Tensor.result("a step of Adam", operands, status == 0 ? out[part] : nil)) }
        }
        weights = try weights.replacing(updated[0])
        first = try first.replacing(updated[1])
        second = try second.replacing(updated[2])
    }
}

/// Stochastic gradient descent with (Nesterov) momentum and L2 weight decay, in the form common libraries use.
public struct MomentumDescent<Weights: TensorTree>: Sendable {
    /// b ← μ b + g.
    public var velocity: Weights
    public let momentum: Double
    public let nesterov: Bool
    public let weightDecay: Double

    public init(for weights: Weights, momentum: Double = 0.9, nesterov: Bool = false, weightDecay: Double = 0) throws(AccrueError) {
        self.init(velocity: try weights.zeros(), momentum: momentum, nesterov: nesterov, weightDecay: weightDecay)
    }

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
