public import AccrueCore
import CTorch
import Foundation

/// Adam (Kingma & Ba 2015): a value with its two moments, so that it can travel, be averaged and be stored.
public struct Adam<Weights: TensorTree>: Optimiser {
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

    /// With moments that have travelled: `steps` is how many made them.
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
