public import AccrueCore
import CTorch

extension Tensor {
    private func reduce(_ name: StaticString, _ op: ct_reduce, _ dims: [Int], _ keep: Bool) throws(AccrueError) -> Tensor {
        try Self.result(name, [self], ct_apply_reduce(Int32(op.rawValue), handle, dims.map(Int64.init), Int32(dims.count), keep))
    }

    // No dimensions: over all elements.
    public func sum(_ dims: Int..., keepDims: Bool = false) throws(AccrueError) -> Tensor { try reduce("a sum", CT_SUM, dims, keepDims) }
    /// Over these dimensions, which stay with one element each.
    public func sum(over dims: [Int]) throws(AccrueError) -> Tensor { try reduce("a sum", CT_SUM, dims, true) }
    public func mean(_ dims: Int..., keepDims: Bool = false) throws(AccrueError) -> Tensor { try reduce("a mean", CT_MEAN, dims, keepDims) }
    public func largest(_ dims: Int..., keepDims: Bool = false) throws(AccrueError) -> Tensor { try reduce("a maximum", CT_AMAX, dims, keepDims) }
    public func logSumExp(_ dims: Int..., keepDims: Bool = false) throws(AccrueError) -> Tensor { try reduce("logsumexp", CT_LOGSUMEXP, dims, keepDims) }

    /// One dimension may be -1: what is left.
    public func reshaped(_ shape: [Int]) throws(AccrueError) -> Tensor {
        try Self.result("a reshape", [self], ct_reshape(handle, shape.map(Int64.init), Int32(shape.count)))
    }

    /// Stretches dimensions of 1, without a copy; -1 keeps a dimension.
    public func expanded(_ shape: [Int]) throws(AccrueError) -> Tensor {
        try Self.result("an expansion", [self], ct_expand(handle, shape.map(Int64.init), Int32(shape.count)))
    }

    /// Dimensions in another order, without a copy.
    public func permuted(_ order: [Int]) throws(AccrueError) -> Tensor {
        try Self.result("a permutation", [self], ct_permute(handle, order.map(Int64.init), Int32(order.count)))
    }

    /// The last two dimensions exchanged.
    public func transposed() throws(AccrueError) -> Tensor {
        let dims = shape.count
        guard dims >= 2 else { throw AccrueError(.invalidInput, while: "transposing", "the tensor has shape \(shape)") }
        return try permuted(Array(0..<dims - 2) + [dims - 1, dims - 2])
    }

    /// Rows of the first dimension, without a copy.
    public func rows(_ range: Range<Int>) throws(AccrueError) -> Tensor {
        try Self.result("rows", [self], ct_narrow(handle, 0, Int64(range.lowerBound), Int64(range.count)))
    }

    /// Places of a dimension, without a copy.
    public func narrowed(_ dim: Int, _ range: Range<Int>) throws(AccrueError) -> Tensor {
        try Self.result("a part of a dimension", [self], ct_narrow(handle, Int32(dim), Int64(range.lowerBound), Int64(range.count)))
    }

    /// The rows of these numbers (I64), in their order.
    public func rows(_ index: Tensor) throws(AccrueError) -> Tensor { try Self.result("rows", [self, index], ct_index_select(handle, 0, index.handle)) }

    /// Along a dimension the elements at these places (I64): the shape is the index's.
    public func gathered(_ index: Tensor, dim: Int) throws(AccrueError) -> Tensor {
        try Self.result("a gather", [self, index], ct_gather(handle, Int32(dim), index.handle))
    }

    /// Tensors one after the other along a dimension; all others must be equal.
    public static func concatenated(_ parts: [Tensor], dim: Int = 0) throws(AccrueError) -> Tensor {
        try result("a concatenation", parts, ct_concatenate(parts.map(\.handle), Int32(parts.count), Int32(dim)))
    }

    /// Tensors of one shape along a new dimension.
    public static func stacked(_ parts: [Tensor], dim: Int = 0) throws(AccrueError) -> Tensor {
        try result("a stack", parts, ct_stack(parts.map(\.handle), Int32(parts.count), Int32(dim)))
    }

    /// The place of the largest element along a dimension (I64).
    public func argmax(_ dim: Int) throws(AccrueError) -> Tensor { try Self.result("an argmax", [self], ct_argmax(handle, Int32(dim))) }

    /// The k-th largest element along the last dimension, which stays with one element.
    public func kthLargest(_ k: Int) throws(AccrueError) -> Tensor { try Self.result("a k-th largest element", [self], ct_kth_largest(handle, Int64(k))) }

    /// Class numbers (I64) as rows of zeros with a one (I64).
    public func oneHot(_ classes: Int) throws(AccrueError) -> Tensor { try Self.result("a one-hot coding", [self], ct_one_hot(handle, Int64(classes))) }
}
