public import AccrueCore
import CTorch

extension Tensor {
    /// The lower Cholesky factors of symmetric matrices, [..., n, n] of F32 or F64.
    /// - Throws: `diverged` when one is not positive definite, naming which and the pivot.
    public func cholesky(while operation: String) throws(AccrueError) -> Tensor {
        var block: Int64 = -1, pivot: Int64 = 0
        let factor = ct_cholesky(handle, &block, &pivot)
        if factor == nil, block >= 0 {
            throw AccrueError(
                .diverged, while: operation, "the precision is not positive definite: pivot \(pivot) of block \(block)",
                hint: "use a larger prior precision, or scale the inputs")
        }
        return try Self.result("a Cholesky factor", [self], factor)
    }

    /// With this lower factor L of A = L Lᵀ, [..., n, n], the solution x of Lᵀ x = z, [..., n, k]: for standard normal z a draw of N(0, A⁻¹).
    public func solvingTransposed(_ z: Tensor) throws(AccrueError) -> Tensor {
        try Self.result("a triangular solution", [self, z], ct_solve_transposed(handle, z.handle))
    }

    /// Eigenvalues [..., n], rising, and eigenvectors [..., n, n], in columns, of symmetric matrices.
    public func symmetricEigen() throws(AccrueError) -> (values: Tensor, vectors: Tensor) {
        var values: ct_tensor?, vectors: ct_tensor?
        guard ct_symmetric_eigen(handle, &values, &vectors) == 0, let values, let vectors else {
            return (try Self.result("eigenvalues", [self], nil), self)
        }
        return (Tensor(owning: values), Tensor(owning: vectors))
    }
}
