import AccrueCore
import AccrueTensor
import Testing

@Suite struct GradientTests {
    /// Central differences of a function of one Float64 tensor against its gradient, in a random direction.
    private func check(_ x: Tensor, _ f: (Tensor) throws(AccrueError) -> Tensor) throws {
        let tree = NamedTensors([("x", x)])
        let (_, gradient) = try valueAndGradient(at: tree) { (w) throws(AccrueError) in try f(try w.tensor("x")) }
        let direction = try RandomKey(seed: 99).normal(x.shape, dtype: .f64)
        let h = 1e-6
        let slope = try (f(try x + (direction * h)).item() - f(try x - (direction * h)).item()) / (2 * h)
        let predicted = try (try gradient.tensor("x") * direction).sum().item()
        #expect(abs(slope - predicted) <= 1e-6 * max(1, abs(slope)), "\(slope) against \(predicted)")
    }

    @Test("gradients agree with finite differences")
    func finiteDifferences() throws {
        let key = RandomKey(seed: 5)
        let x = try key.folding(0).normal([2, 2, 6, 6], dtype: .f64)
        let w = try key.folding(1).normal([3, 2, 3, 3], dtype: .f64), v = try key.folding(2).normal([5, 12], dtype: .f64)
        let ones = try Tensor.ones([3], dtype: .f64), targets = try Tensor([1, 4])
        try check(x) { (x) throws(AccrueError) in
            let hidden = try x.convolved(w, nil, padding: 1).batchNormalised(scale: ones, shift: ones).tanh().maxPooled(3, stride: 3).reshaped([2, 12])
            return try hidden.linear(v, nil).crossEntropy(targets)
        }
        try check(try key.folding(3).uniform([4, 3], dtype: .f64)) { (x) throws(AccrueError) in
            let a = try x.log() + (try x.squareRoot() * x.exp())
            return try (a.softplus() / (x + 1)).logSumExp(1).sum()
        }
        try check(try key.folding(4).normal([4, 3], dtype: .f64)) { (x) throws(AccrueError) in
            try x.sigmoid().binaryCrossEntropy(try Tensor.full([4, 3], 0.25, dtype: .f64)) + x.expm1().mean()
        }
    }

    @Test("a weight that the value does not depend on has gradient zero")
    func unused() throws {
        let weights = NamedTensors([("a", try .scalar(2)), ("b", try .ones([3]))])
        let (value, gradient) = try valueAndGradient(at: weights) { (w) throws(AccrueError) in try w.tensor("a").squared() }
        #expect(try value.item() == 4)
        #expect(try gradient.tensor("a").item() == 4)
        #expect(try gradient.tensor("b").doubles() == [0, 0, 0])
    }

    @Test("a function with several values is refused")
    func notScalar() throws {
        let weights = NamedTensors([("a", try .ones([2]))])
        let error = #expect(throws: AccrueError.self) { try valueAndGradient(at: weights) { (w) throws(AccrueError) in try w.tensor("a") } }
        #expect(error?.problem.contains("[2]") == true)
    }
}
