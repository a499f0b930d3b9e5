public import AccrueCore
import CTorch

/// Random numbers as functions of a key: Philox4x32-10, counted from the key, the same on any number of threads.
///
/// Source: Salmon, Moraes, Dror & Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC 2011); normals by Box & Muller (1958).
extension RandomKey {
    /// Standard normal numbers.
    public func normal(_ shape: [Int], dtype: DType = .f32) throws(AccrueError) -> Tensor {
        let sizes = shape.map(Int64.init)
        return Tensor(owning: try Tensor.made(ct_normal(high, low, sizes, Int32(sizes.count), dtype.index), "drawing normals of shape \(shape)"))
    }

    /// One draw from independent Gaussians (F32): mean + scale · deviation · normal. No gradient is recorded.
    /// - Throws: `invalidInput` when the two are not of one shape, or not F32.
    public func draw(mean: Tensor, deviation: Tensor, scale: Double = 1) throws(AccrueError) -> Tensor {
        try Tensor.result("a draw of Gaussians", [mean, deviation], ct_gaussian_draw(mean.handle, deviation.handle, scale, high, low))
    }

    /// Uniform numbers in the open interval (0, 1).
    public func uniform(_ shape: [Int], dtype: DType = .f32) throws(AccrueError) -> Tensor {
        let sizes = shape.map(Int64.init)
        return Tensor(owning: try Tensor.made(ct_uniform(high, low, sizes, Int32(sizes.count), dtype.index), "drawing uniform numbers of shape \(shape)"))
    }

    /// Class numbers (I64, [rows]) drawn from rows of logits, by the Gumbel-max rule.
    public func classes(logits: Tensor) throws(AccrueError) -> Tensor {
        return try (logits + (try gumbel(logits.shape))).argmax(logits.shape.count - 1)
    }

    /// Standard Gumbel numbers, −log E of exponential ones.
    public func gumbel(_ shape: [Int], dtype: DType = .f32) throws(AccrueError) -> Tensor {
        try uniform(shape, dtype: dtype).log().negated().log().negated()
    }

    /// The numbers 0 ..< count in random order: every order has the same chance up to 2⁻⁶⁴ (Fisher & Yates).
    public func permutation(_ count: Int) -> [Int] {
        guard count > 1 else { return Array(0..<max(0, count)) }
        var words = [UInt64](repeating: 0, count: count)
        ct_random_words(high, low, &words, Int64(count))
        var result = Array(0..<count)
        for last in stride(from: count - 1, to: 0, by: -1) {
            result.swapAt(last, Int(words[last].multipliedFullWidth(by: UInt64(last + 1)).high))
        }
        return result
    }
}
