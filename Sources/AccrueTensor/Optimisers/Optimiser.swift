public import AccrueCore

/// A rule that moves weights against a gradient: a value with whatever it remembers.
public protocol Optimiser<Weights>: Sendable {
    associatedtype Weights: TensorTree
    /// One step down the gradient.
    /// - Throws: `invalidInput` when the gradient is not of the weights' shapes.
    mutating func update(_ weights: inout Weights, gradient: Weights, rate: Double) throws(AccrueError)
}
