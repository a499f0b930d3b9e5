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
