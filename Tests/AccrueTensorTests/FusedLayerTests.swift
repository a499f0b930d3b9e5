import AccrueCore
import AccrueTensor
import Testing

/// Layers with kernels of their own against the library's plain operations, on every instruction set that this processor has.
@Suite struct FusedLayerTests {
    private static let levels = [FusedKernels.baseline, .avx2, .avx512]
    private let key = RandomKey(seed: 31)

    private func gaussian(_ w: NamedTensors) throws(AccrueError) -> GaussianAffine {
        GaussianAffine(weight: try w.tensor("w"), bias: try w.tensor("b"), variance: try w.tensor("v"), biasVariance: try w.tensor("bv"))
    }

    private func weights(_ x: [Int], _ weight: [Int], dtype: DType = .f32) throws -> NamedTensors {
        func normal(_ name: String, _ shape: [Int], _ scale: Double) throws -> (String, Tensor) {
            (name, try (try key.folding(name).normal(shape) * scale).cast(to: dtype))
        }
        func square(_ part: (String, Tensor)) throws -> (String, Tensor) { (part.0, try part.1.squared() + 1e-4) }
        return NamedTensors([
            try normal("x", x, 1), try normal("w", weight, 0.3), try normal("b", [weight[0]], 1), try square(try normal("v", weight, 0.2)),
            try square(try normal("bv", [weight[0]], 0.2)),
        ])
    }

    /// Value and gradients on every level against the reference's.
    private func compare(_ weights: NamedTensors, _ body: (NamedTensors) throws(AccrueError) -> Tensor) throws {
        func run(_ level: FusedKernels) throws -> (output: Tensor, gradient: NamedTensors) {
            try FusedKernels.use(level)
            defer { try? FusedKernels.use(.widest) }
            let output = try body(weights)
            let slope = try key.folding("slope").normal(output.shape)
            let (_, gradient) = try valueAndGradient(at: weights) { (w) throws(AccrueError) in try (try body(w) * slope).sum() }
            return (output, gradient)
        }
        func expectClose(_ a: Tensor, _ b: Tensor, _ name: String) throws {
            #expect(a.shape == b.shape, "\(name)")
            #expect(try (a - b).absolute().largest().item() <= 1e-4 * (try b.absolute().largest().item()), "\(name)")
        }
        let reference = try run(.reference)
        for level in Self.levels where (try? FusedKernels.use(level)) != nil {
            let fused = try run(level)
            try expectClose(fused.output, reference.output, "\(level), output")
            for (name, tensor) in reference.gradient.tensors { try expectClose(try fused.gradient.tensor(name), tensor, "\(level), \(name)") }
        }
    }

    @Test("a pooled convolution is the plain operations', gradients included", arguments: [0, 1, 2], [1, 3])
    func pooled(padding: Int, channels: Int) throws {
        for (size, outputs) in [(7, 6), (12, 50)] {
            try compare(try weights([19, channels, size, size + 1], [outputs, channels, 5, 5])) { (w) throws(AccrueError) in
                try w.tensor("x").convolvedPooledRelu(try w.tensor("w"), try w.tensor("b"), padding: padding)
            }
        }
    }

    @Test("a pooled convolution of Gaussians is the plain operations' with the same noise, gradients included", arguments: [0, 1, 2], [1, 3])
    func pooledGaussians(padding: Int, channels: Int) throws {
        for (size, outputs) in [(7, 6), (12, 50)] {
            try compare(try weights([19, channels, size, size + 1], [outputs, channels, 5, 5])) { (w) throws(AccrueError) in
                try w.tensor("x").convolvedPooledRelu(try gaussian(w), padding: padding, key: key)
            }
        }
    }

    @Test("a dense layer of Gaussians is the plain operations' with the same noise, gradients included")
    func dense() throws {
        try compare(try weights([23, 37], [11, 37])) { (w) throws(AccrueError) in try w.tensor("x").linear(try gaussian(w), key: key) }
    }

    @Test("gradients of layers of Gaussians agree with finite differences in Float64")
    func finiteDifferences() throws {
        func check(_ weights: NamedTensors, _ body: (NamedTensors) throws(AccrueError) -> Tensor) throws {
            let (_, gradient) = try valueAndGradient(at: weights) { (w) throws(AccrueError) in try body(w) }
            for (name, tensor) in gradient.tensors {
                let along = try key.folding("along").folding(name).normal(tensor.shape, dtype: .f64)
                func moved(_ step: Double) throws -> Double {
                    var list: [(String, Tensor)] = []
                    for (other, value) in weights.tensors { list.append((other, other == name ? try value + (along * step) : value)) }
                    return try body(NamedTensors(list)).item()
                }
                let slope = try (moved(1e-6) - moved(-1e-6)) / 2e-6, predicted = try (tensor * along).sum().item()
                #expect(abs(slope - predicted) <= 1e-5 * max(1, abs(slope)), "\(name): \(slope) against \(predicted)")
            }
        }
        try check(try weights([3, 5], [4, 5], dtype: .f64)) { (w) throws(AccrueError) in try w.tensor("x").linear(try gaussian(w), key: key).tanh().sum() }
        try check(try weights([2, 2, 8, 8], [3, 2, 3, 3], dtype: .f64)) { (w) throws(AccrueError) in
            try w.tensor("x").convolvedPooledRelu(try gaussian(w), padding: 1, key: key).tanh().sum()
        }
    }

    @Test("a layer of Gaussians refuses operands that do not fit")
    func shapes() throws {
        let x = try Tensor.ones([2, 1, 8, 8]), layer = GaussianAffine(weight: try .ones([3, 1, 3, 3]), bias: nil, variance: try .ones([3, 1, 3, 2]), biasVariance: nil)
        #expect(throws: AccrueError.self) { try x.convolvedPooledRelu(layer, key: key) }
        #expect(throws: AccrueError.self) { try x.reshaped([2, 64]).linear(layer, key: key) }
    }
}
