import AccrueCore
import AccrueTensor
import Testing

/// Whole networks for predictions against the library's plain operations, on every instruction set that this processor has.
@Suite struct PackedNetworkTests {
    private let key = RandomKey(seed: 47)

    private func normal(_ name: String, _ shape: [Int], _ scale: Double) throws -> Tensor { try key.folding(name).normal(shape) * scale }

    /// A network like LeNet-5, with a border around its second convolution.
    private func stages(_ draw: Int) throws -> [PackedNetwork.Stage] {
        [
            .init(weight: try normal("\(draw) a", [7, 2, 3, 3], 0.3), bias: try normal("\(draw) b", [7], 0.1), relu: true),
            .init(weight: try normal("\(draw) c", [26, 7, 3, 3], 0.2), bias: nil, padding: 1, relu: true),
            .init(weight: try normal("\(draw) d", [61, 26 * 3 * 3], 0.1), bias: try normal("\(draw) e", [61], 0.1), relu: true),
            .init(weight: try normal("\(draw) f", [10, 61], 0.2), bias: try normal("\(draw) g", [10], 0.1), relu: false),
        ]
    }

    private func plain(_ stages: [PackedNetwork.Stage], _ x: Tensor) throws -> Tensor {
        var x = x
        for stage in stages {
            if stage.weight.shape.count == 4 {
                x = try x.convolved(stage.weight, stage.bias, padding: stage.padding).maxPooled(2, stride: 2).relu()
            } else {
                x = try x.reshaped([x.rowCount, -1]).linear(stage.weight, stage.bias)
                if stage.relu { x = try x.relu() }
            }
        }
        return x
    }

    @Test("outputs are the plain operations' within 10⁻⁵", arguments: [FusedKernels.baseline, .avx2, .avx512])
    func reference(level: FusedKernels) throws {
        guard (try? FusedKernels.use(level)) != nil else { return }
        defer { try? FusedKernels.use(.widest) }
        let networks = try (0..<3).map { try #require(try PackedNetwork(try stages($0), inputShape: [2, 14, 14])) }
        let x = try normal("x", [37, 2, 14, 14], 1)
        let found = try PackedNetwork.outputs(networks, x)
        let expected = try Tensor.stacked(try (0..<3).map { try plain(try stages($0), x) })
        #expect(try (Tensor(found, shape: [3, 37, 10]) - expected).absolute().largest().item() <= 1e-5 * (try expected.absolute().largest().item()))
    }

    @Test("a row's outputs are the same bits whatever rows and draws it comes with", arguments: [1, 2, 3, 4, 5, 33])
    func company(rows: Int) throws {
        let networks = try (0..<2).map { try #require(try PackedNetwork(try stages($0), inputShape: [2, 14, 14])) }
        let x = try normal("x", [40, 2, 14, 14], 1)
        let whole = try PackedNetwork.outputs(networks, x)
        for start in stride(from: 0, through: 40 - rows, by: 3) {
            let some = try x.rows(start..<start + rows)
            for draw in 0..<2 {
                let first = (draw * 40 + start) * 10
                #expect(try PackedNetwork.outputs([networks[draw]], some).map(\.bitPattern) == whole[first..<first + rows * 10].map(\.bitPattern))
            }
        }
    }

    @Test("outputs are the same bits for any number of threads, and what is wrong is said by the caller's", arguments: [2, 3, 9])
    func threads(count: Int) throws {
        let networks = try (0..<5).map { try #require(try PackedNetwork(try stages($0), inputShape: [2, 14, 14])) }
        let x = try normal("x", [40, 2, 14, 14], 1)
        #expect(try PackedNetwork.outputs(networks, x, threads: count).map(\.bitPattern) == PackedNetwork.outputs(networks, x).map(\.bitPattern))
        #expect { try PackedNetwork.outputs(networks, try normal("x", [4, 2, 7, 7], 1), threads: count) } throws: { "\($0)".contains("for a network of") }
    }

    /// The same, with the first dense layer's outputs drawn of these moments, the same for all draws; and a perceptron whose first layer is.
    private func drawing(_ draw: Int, _ moments: DenseMoments, isPerceptron: Bool) throws -> [PackedNetwork.Stage] {
        var stages = try stages(draw)
        stages[2].drawn = (moments, try normal("\(draw) noise", [61], 1))
        return isPerceptron ? Array(stages.dropFirst(2)) : stages
    }

    @Test("drawn outputs are m + noise · √v, within 10⁻⁵, and the same bits in any company and for any number of threads", arguments: [FusedKernels.baseline, .avx2, .avx512], [false, true])
    func drawnOutputs(level: FusedKernels, isPerceptron: Bool) throws {
        guard (try? FusedKernels.use(level)) != nil else { return }
        defer { try? FusedKernels.use(.widest) }
        let mean = try normal("mean", [61, 234], 0.1), variance = try normal("deviation", [61, 234], 0.2).squared()
        let bias = try normal("bias mean", [61], 0.1), biasVariance = try normal("bias deviation", [61], 0.3).squared()
        let moments = try DenseMoments(mean: mean, bias: bias, variance: variance, biasVariance: biasVariance)
        let shape = isPerceptron ? [234] : [2, 14, 14], draws = 5
        let networks = try (0..<draws).map { try #require(try PackedNetwork(try drawing($0, moments, isPerceptron: isPerceptron), inputShape: shape)) }
        let x = try normal("x", [23] + shape, 1)
        let found = try PackedNetwork.outputs(networks, x)
        for draw in 0..<draws {
            let stages = try stages(draw)
            let hidden = isPerceptron ? x : try plain(Array(stages.prefix(2)), x).reshaped([23, -1])
            let m = try hidden.linear(mean, bias), v = try hidden.squared().linear(variance, biasVariance)
            let drawn = try (m + (try v.squareRoot() * (try normal("\(draw) noise", [61], 1)))).relu()
            let expected = try plain(Array(stages.suffix(1)), drawn).floats()
            let largest = try #require(expected.map(abs).max())
            for (a, b) in zip(found[draw * 230..<(draw + 1) * 230], expected) { #expect(abs(a - b) <= 1e-5 * largest) }
        }
        for threads in [2, 5] { #expect(try PackedNetwork.outputs(networks, x, threads: threads).map(\.bitPattern) == found.map(\.bitPattern)) }
        for (first, rows) in [(0, 1), (3, 2), (7, 16)] {
            let some = try PackedNetwork.outputs(Array(networks[1...2]), try x.rows(first..<first + rows))
            for draw in 0..<2 {
                let start = ((draw + 1) * 23 + first) * 10
                #expect(some[draw * rows * 10..<(draw + 1) * rows * 10].map(\.bitPattern) == found[start..<start + rows * 10].map(\.bitPattern))
            }
        }
    }

    @Test("moments of another shape are refused")
    func strangeMoments() throws {
        #expect(throws: AccrueError.self) { try DenseMoments(mean: try .zeros([3, 4]), bias: nil, variance: try .zeros([4, 3]), biasVariance: nil) }
        #expect(throws: AccrueError.self) { try DenseMoments(mean: try .zeros([3, 4]), bias: try .zeros([2]), variance: try .zeros([3, 4]), biasVariance: nil) }
        let endless = try DenseMoments(mean: try .full([3, 4], .infinity), bias: nil, variance: try .zeros([3, 4]), biasVariance: nil)
        #expect(try PackedNetwork([.init(weight: try .zeros([3, 4]), bias: nil, relu: false, drawn: (endless, try .zeros([3])))], inputShape: [4]) == nil)
        let moments = try DenseMoments(mean: try .zeros([3, 4]), bias: nil, variance: try .zeros([3, 4]), biasVariance: nil)
        for (weight, noise) in [([3, 5], 3), ([3, 4], 2)] {
            let stage = PackedNetwork.Stage(weight: try .zeros(weight), bias: nil, relu: false, drawn: (moments, try .zeros([noise])))
            #expect(throws: AccrueError.self) { try PackedNetwork([stage], inputShape: [weight[1]]) }
        }
    }

    @Test("a row that is not finite leaves the rows beside it alone")
    func poison() throws {
        let network = try #require(try PackedNetwork(try stages(0), inputShape: [2, 14, 14]))
        let x = try normal("x", [3, 2, 14, 14], 1), poison = try Tensor.full([1, 2, 14, 14], .nan)
        let alone = try PackedNetwork.outputs([network], x), mixed = try PackedNetwork.outputs([network], try .concatenated([x, poison]))
        #expect(mixed.prefix(30).elementsEqual(alone) && mixed.suffix(10).allSatisfy { !$0.isFinite })
    }

    @Test("the reference has no such form, nor has a network with a weight that is not finite")
    func absent() throws {
        let broken = [PackedNetwork.Stage(weight: try .full([2, 3], .infinity), bias: nil, relu: false)]
        #expect(try PackedNetwork(broken, inputShape: [3]) == nil)
        try FusedKernels.use(.reference)
        defer { try? FusedKernels.use(.widest) }
        #expect(try PackedNetwork(try stages(0), inputShape: [2, 14, 14]) == nil)
    }

    @Test("layers and inputs that do not fit are refused")
    func refused() throws {
        let dense = [PackedNetwork.Stage(weight: try .ones([2, 3]), bias: nil, relu: false)]
        #expect(throws: AccrueError.self) { try PackedNetwork(dense, inputShape: [4]) }
        let network = try #require(try PackedNetwork(dense, inputShape: [3]))
        #expect(throws: AccrueError.self) { try PackedNetwork.outputs([network], .ones([5, 4])) }
    }
}
