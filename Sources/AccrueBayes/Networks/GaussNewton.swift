public import AccrueCore
public import AccrueTensor

extension Network {
    /// Σ over rows of the diagonal of the generalised Gauss–Newton matrix Jᵀ H J, weight by weight: J a row's Jacobian, H the information that its target holds
    /// about its outputs. Exact: no targets are drawn. For Gaussian targets it is the curvature itself.
    ///
    /// - Throws: `invalidInput` for networks with batch norms.
    public func gaussNewtonDiagonal(_ weights: NamedTensors, inputs: Tensor, likelihood: Likelihood) throws(AccrueError) -> NamedTensors {
        var pass = PlainPass(weights)
        let outputs = try apply(inputs, &pass)
        var sum: NamedTensors?
        for root in try likelihood.informationRoots(outputs, weights: weights) {
            let part = try squaredGradients(weights, inputs: inputs) { (outputs) throws(AccrueError) in try (outputs * root).sum() }
            sum = try sum?.zip(part) { (a, b) throws(AccrueError) in try a + b[0] } ?? part
        }
        return sum ?? NamedTensors()
    }
}
