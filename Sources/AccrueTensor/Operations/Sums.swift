public import AccrueCore
import CTorch

extension Tensor {
    /// Σ weight · tensor, summed in order in Float64 and rounded once: F32 or F64 tensors of one shape. No gradient is recorded.
    /// - Throws: `invalidInput` for no tensors, or tensors of different shapes or types.
    public static func weightedSum(_ tensors: [Tensor], weights: [Double]) throws(AccrueError) -> Tensor {
        guard tensors.count == weights.count else {
            throw AccrueError(.invalidInput, while: "summing tensors", "there are \(tensors.count) tensors and \(weights.count) weights")
        }
        return try result("a weighted sum", tensors, ct_weighted_sum(tensors.map(\.handle), weights, Int32(tensors.count)))
    }
}
