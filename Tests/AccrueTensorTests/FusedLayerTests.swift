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
        // One to five vectors of outputs, and odd and even numbers of windows.
        for (size, outputs) in [(7, 6), (9, 24), (11, 40), (12, 50), (8, 75)] {
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

    @Test("a batch norm with ReLU, and with a mix of units, is the plain operations', gradients included", arguments: [(8, 3), (5, 2), (16, 1), (3, 4)])
    func residualNorms(_ channels: Int, _ units: Int) throws {
        let width = channels * units
        func normal(_ name: String, _ shape: [Int]) throws -> (String, Tensor) { (name, try key.folding(name).normal(shape)) }
        var list = [try normal("z", [6, width, 5, 4]), try normal("scale", [width]), try normal("shift", [width]), try normal("x", [6, channels, 5, 4])]
        // Far from zero, where a mean of squares would lose everything.
        list[0].1 = try list[0].1 + 300
        list.append(("shares", try key.folding("shares").normal([6, units]).softmax(1)))
        let weights = NamedTensors(list)
        try compare(weights) { (w) throws(AccrueError) in try w.tensor("z").batchNormalisedRelu(scale: try w.tensor("scale"), shift: try w.tensor("shift")) }
        try compare(weights) { (w) throws(AccrueError) in
            try w.tensor("z").batchNormalisedMix(scale: try w.tensor("scale"), shift: try w.tensor("shift"), shares: try w.tensor("shares"), addedTo: try w.tensor("x"))
        }
        let z = try weights.tensor("z"), wide = try z.cast(to: .f64), mean = try wide.mean(0, 2, 3, keepDims: true)
        let squares = try (wide - mean).squared().sum(0, 2, 3).doubles(), means = try mean.doubles()
        for level in Self.levels where (try? FusedKernels.use(level)) != nil {
            defer { try? FusedKernels.use(.widest) }
            for pictures in [z, try z.channelsLast()] {
                let found = try pictures.channelMoments()
                for index in 0..<width {
                    #expect(abs(found.mean[index] - means[index]) < 1e-5 && abs(found.centredSquares[index] - squares[index]) < 1e-4 * squares[index], "\(level)")
                }
            }
        }
    }

    @Test("norms of residual units refuse operands that do not fit")
    func residualShapes() throws {
        let z = try Tensor.ones([2, 6, 4, 4]), ones = try Tensor.ones([6])
        #expect(throws: AccrueError.self) { try z.batchNormalisedRelu(scale: .ones([5]), shift: ones) }
        #expect(throws: AccrueError.self) { try z.batchNormalisedMix(scale: ones, shift: ones, shares: .ones([2, 4]), addedTo: .ones([2, 3, 4, 4])) }
        #expect(throws: AccrueError.self) { try z.batchNormalisedMix(scale: ones, shift: ones, shares: .ones([2, 2]), addedTo: .ones([2, 3, 4, 5])) }
        #expect(throws: AccrueError.self) { try Tensor.ones([4]).channelMoments() }
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

    @Test("squared gradients of a pooled convolution are those of one image at a time", arguments: [0, 1])
    func squares(padding: Int) throws {
        let w = try weights([4, 3, 9, 8], [10, 3, 3, 3]), x = try w.tensor("x"), layer = NamedTensors([("w", try w.tensor("w")), ("b", try w.tensor("b"))])
        for level in Self.levels where (try? FusedKernels.use(level)) != nil {
            defer { try? FusedKernels.use(.widest) }
            let (output, winners) = try #require(try x.convolvedPooledReluWithWinners(try w.tensor("w"), try w.tensor("b"), padding: padding))
            let slope = try key.folding("slope").normal(output.shape)
            let found = try x.pooledSquares(winners: winners, slope: slope, kernel: 3, padding: padding)
            var expected = try layer.zeros()
            for row in 0..<4 {
                let (_, gradient) = try valueAndGradient(at: layer) { (layer) throws(AccrueError) in
                    let y = try x.rows(row..<row + 1).convolvedPooledRelu(try layer.tensor("w"), try layer.tensor("b"), padding: padding)
                    return try (y * (try slope.rows(row..<row + 1))).sum()
                }
                expected = try expected.zip(gradient) { (sum, g) throws(AccrueError) in try sum + (try g[0].squared()) }
            }
            for (a, b) in [(found.weight, try expected.tensor("w")), (found.bias, try expected.tensor("b"))] {
                #expect(a.shape == b.shape)
                #expect(try (a - b).absolute().largest().item() <= 1e-5 * (try b.largest().item()), "\(level)")
            }
        }
    }

    @Test("the reference has no winners to tell")
    func noWinners() throws {
        try FusedKernels.use(.reference)
        defer { try? FusedKernels.use(.widest) }
        #expect(try Tensor.ones([1, 1, 6, 6]).convolvedPooledReluWithWinners(.ones([2, 1, 3, 3]), nil) == nil)
    }

    @Test("a weighted sum is that of Float64, rounded once, for both element types", arguments: [DType.f32, .f64])
    func weightedSums(dtype: DType) throws {
        let parts = try (0..<5).map { try key.folding("part").folding($0).normal([5_003], dtype: dtype) }, shares = [0.1, 0.25, 0.3, 0.05, 0.3]
        let found = try Tensor.weightedSum(parts, weights: shares).doubles()
        let values = try parts.map { try $0.doubles() }
        for index in found.indices {
            let expected = zip(values, shares).reduce(0.0) { $0 + $1.0[index] * $1.1 }
            #expect(abs(found[index] - expected) <= (dtype == .f32 ? 1e-7 : 1e-15) * max(1, abs(expected)))
        }
        #expect(throws: AccrueError.self) { try Tensor.weightedSum([parts[0], .ones([2], dtype: dtype)], weights: [1, 1]) }
        #expect(throws: AccrueError.self) { try Tensor.weightedSum([], weights: []) }
    }

    @Test("a weighted sum has the same bits on every instruction set, for few parts and for many", arguments: [DType.f32, .f64], [1, 5, 8, 19])
    func weightedSumBits(dtype: DType, count: Int) throws {
        defer { try? FusedKernels.use(.widest) }
        let parts = try (0..<count).map { try key.folding("part").folding($0).normal([5_003], dtype: dtype) }, shares = (0..<count).map { 1 / Double($0 + 3) }
        let sums = try Self.levels.filter { (try? FusedKernels.use($0)) != nil }.map { (level) in
            try FusedKernels.use(level)
            return try Tensor.weightedSum(parts, weights: shares).bytes()
        }
        // Part after part in Float64, rounded once.
        let values = try parts.map { try $0.doubles() }
        let expected = (0..<5_003).map { index in zip(values, shares).reduce(0.0) { $0 + $1.0[index] * $1.1 } }
        for sum in sums { #expect(try Tensor(sum).doubles() == (dtype == .f32 ? expected.map { Double(Float($0)) } : expected)) }
    }

    @Test("a layer of Gaussians refuses operands that do not fit")
    func shapes() throws {
        let x = try Tensor.ones([2, 1, 8, 8]), layer = GaussianAffine(weight: try .ones([3, 1, 3, 3]), bias: nil, variance: try .ones([3, 1, 3, 2]), biasVariance: nil)
        #expect(throws: AccrueError.self) { try x.convolvedPooledRelu(layer, key: key) }
        #expect(throws: AccrueError.self) { try x.reshaped([2, 64]).linear(layer, key: key) }
    }
}
