public import AccrueCore
public import AccrueTensor

extension Likelihood {
    /// Roots of the Fisher information that a row's target holds about the row's outputs: tensors sᵢ [rows, outputs] with Σᵢ sᵢ sᵢᵀ the information, in
    /// expectation over targets and exactly (no targets are drawn).
    ///
    /// Softmax: √p_c (e_c − p), a root a class, since diag p − p pᵀ = Σ_c p_c (e_c − p)(e_c − p)ᵀ. Bernoulli: √(p(1 − p)). Gaussian: the square root of the
    /// noise's precision. With J a row's Jacobian, Jᵀ (Σ s sᵀ) J is the generalised Gauss–Newton matrix.
    public func informationRoots(_ outputs: Tensor, weights: NamedTensors) throws(AccrueError) -> [Tensor] {
        switch self {
        case .softmax(let classes):
            let p = try outputs.detached().softmax(1)
            var roots: [Tensor] = []
            for label in 0..<classes {
                let unit = try Tensor([Int](repeating: label, count: outputs.rowCount)).oneHot(classes).cast(to: .f32)
                let own = try (p * unit).sum(1, keepDims: true).squareRoot()
                roots.append(try (unit - p) * own)
            }
            return roots
        case .bernoulli:
            let p = try outputs.detached().sigmoid()
            return [try (p * (try p.negated() + 1)).squareRoot()]
        case .gaussian: return [try .full(outputs.shape, 1 / (try noiseVariance(weights)).squareRoot())]
        }
    }
}
