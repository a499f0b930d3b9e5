public import AccrueCore

/// A rule that moves weights against a gradient: a value with whatever it remembers.
public protocol Optimiser<Weights>: Sendable {
    /// Where gradients are taken.
    associatedtype Weights: TensorTree
    /// What is averaged over a tail of steps.
    associatedtype Averaged: TensorTree = Weights
    /// One step down the gradient.
    /// - Throws: `invalidInput` when the gradient is not of the weights' shapes.
    mutating func update(_ weights: inout Weights, gradient: Weights, rate: Double) throws(AccrueError)
    /// What a tail average takes of where the optimiser stands: the weights, for those whose gradients are taken where they stand.
    func averaged(_ weights: Weights) -> Averaged
}

extension Optimiser where Averaged == Weights {
    public func averaged(_ weights: Weights) -> Weights { weights }
}
