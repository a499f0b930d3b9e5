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
    public let settings: AdamSettings
    /// A Gaussian prior's part, added to every gradient: strength · (weights − centre).
    public let pull: (centre: Weights, strength: Weights)?

    /// With zero moments.
    public init(for weights: Weights, settings: AdamSettings = AdamSettings()) throws(AccrueError) {
        self.init(first: try weights.zeros(), second: try weights.zeros(), steps: 0, settings: settings)
    }

    /// With moments that have travelled: `steps` is how many made them.
    public init(first: Weights, second: Weights, steps: Int, settings: AdamSettings = AdamSettings(), pull: (centre: Weights, strength: Weights)? = nil) {
        self.first = first
        self.second = second
        self.steps = steps
        self.settings = settings
        self.pull = pull
    }

    /// One step down the gradient.
    /// - Throws: `invalidInput` when the gradient is not of the weights' shapes, or not F32.
    public mutating func update(_ weights: inout Weights, gradient: Weights, rate: Double) throws(AccrueError) {
        steps += 1
        var step = settings.step(steps, rate: rate)
        let lists = [weights, gradient, first, second].map(\.tensors), centres = pull?.centre.tensors, strengths = pull?.strength.tensors
        var updated: [[Tensor]] = [[], [], []]
        for index in lists[0].indices {
            let operands = lists.map { $0[index].tensor }
            var out: [ct_tensor?] = [nil, nil, nil]
            let status = ct_adam_step(
                &step, operands[0].handle, operands[1].handle, operands[2].handle, operands[3].handle, centres?[index].tensor.handle,
                strengths?[index].tensor.handle, &out)
            for part in 0..<3 { updated[part].append(try Tensor.result("a step of Adam", operands, status == 0 ? out[part] : nil)) }
        }
        weights = try weights.replacing(updated[0])
        first = try first.replacing(updated[1])
        second = try second.replacing(updated[2])
    }
}

/// Adam's constants.
public struct AdamSettings: Equatable, Sendable {
    public var beta1: Double
    public var beta2: Double
    public var epsilon: Double

    public init(beta1: Double = 0.9, beta2: Double = 0.999, epsilon: Double = 1e-8) {
        self.beta1 = beta1
        self.beta2 = beta2
        self.epsilon = epsilon
    }

    /// The numbers of a step (from 1), with the corrections for moments that started at zero.
    func step(_ step: Int, rate: Double) -> ct_adam {
        ct_adam(
            rate: rate / (1 - pow(beta1, Double(step))), beta1: beta1, beta2: beta2, correction: 1 - pow(beta2, Double(step)), epsilon: epsilon)
    }
}
