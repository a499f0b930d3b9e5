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

    /// The pooled convolution's kernel (F32) against the same in three operations.
    @Test("a convolution, pooling and ReLU at once are the three by themselves, gradients included", arguments: [0, 1, 2], [7, 12])
    func pooledConvolution(padding: Int, size: Int) throws {
        let key = RandomKey(seed: 6)
        let weights = NamedTensors([
            ("x", try key.folding(0).normal([37, 3, size, size + 1])), ("w", try key.folding(1).normal([6, 3, 5, 5]) * 0.3), ("b", try key.folding(2).normal([6])),
        ])
        func run(_ body: (NamedTensors) throws(AccrueError) -> Tensor) throws -> (output: [Double], gradient: NamedTensors) {
            let output = try body(weights)
            let slope = try key.folding(3).normal(output.shape)
            let (_, gradient) = try valueAndGradient(at: weights) { (w) throws(AccrueError) in try (try body(w) * slope).sum() }
            return (try output.doubles(), gradient)
        }
        let fused = try run { (w) throws(AccrueError) in try w.tensor("x").convolvedPooledRelu(try w.tensor("w"), try w.tensor("b"), padding: padding) }
        let plain = try run { (w) throws(AccrueError) in
            try w.tensor("x").convolved(try w.tensor("w"), try w.tensor("b"), padding: padding).relu().maxPooled(2, stride: 2)
        }
        #expect(fused.output.count == plain.output.count)
        for (a, b) in zip(fused.output, plain.output) { #expect(abs(a - b) < 1e-4) }
        for (name, tensor) in plain.gradient.tensors {
            let scale = try tensor.absolute().largest().item()
            #expect(try (tensor - (try fused.gradient.tensor(name))).absolute().largest().item() < 1e-5 * max(1, scale), "\(name)")
        }
    }

    @Test("a pooled convolution hides no value that is not a number, and refuses operands that do not fit")
    func pooledConvolutionEdges() throws {
        var values = [Float](repeating: 1, count: 36)
        values[21] = .nan
        let x = try Tensor(values, shape: [1, 1, 6, 6]), w = try Tensor.full([1, 1, 3, 3], -1)
        #expect(try x.convolvedPooledRelu(w, nil).isFinite() == false)
        for weight in [[1, 2, 3, 3], [1, 1, 3, 2], [1, 1, 6, 6]] {
            let error = #expect(throws: AccrueError.self) { try x.convolvedPooledRelu(try .ones(weight), nil) }
            #expect(error?.code == .invalidInput)
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
