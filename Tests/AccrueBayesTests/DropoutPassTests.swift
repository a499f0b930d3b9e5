import AccrueBayes
import AccrueCore
import AccrueTensor
import Foundation
import Testing

@Suite struct DropoutPassTests {
    init() { EngineFingerprint.beginThread() }

    private static let key = RandomKey(seed: 21)

    /// Five inputs, six hidden units (with a batch norm or without), two outputs.
    private static func network(batchNorm: Bool = false) -> Network {
        let norm: [Layer] = batchNorm ? [.batchNorm(.init(name: "hidden.norm", features: 6))] : []
        return Network(
            layers: [.affine(.init("hidden", .dense, inputs: 5, outputs: 6))] + norm + [.relu, .affine(.init("last", .dense, inputs: 6, outputs: 2))], inputShape: [5])
    }

    private static func outputs(
        _ network: Network, _ weights: NamedTensors, _ x: Tensor, rate: Double, key: RandomKey = key, behind: [String]? = nil, isShared: Bool
    ) throws -> [Double] {
        let statistics: BatchStatistics = network.batchNorms.isEmpty ? [:] : ["hidden.norm": (try .full([6], 0.1), try .full([6], 2))]
        var pass = DropoutPass(PlainPass(weights, statistics: statistics), network: network, behind: behind, rate: rate, key: key, isShared: isShared)
        return try network.apply(x, &pass).doubles()
    }

    @Test("a linear layer of dropped units has the mean of all units and covariance r/(1 − r) Σ wᵢ wⱼ h²", arguments: [false, true])
    func moments(_ batchNorm: Bool) throws {
        let network = Self.network(batchNorm: batchNorm), weights = try network.initialWeights(key: Self.key), n = 40_000, rate = 0.3
        let x = try Self.key.folding("x").normal([1, 5])
        // What the last layer has of its units without dropout, one by one: h times a weight.
        let last = try weights.tensor("last.weight").doubles()
        var hidden = [Double](repeating: 0, count: 6)
        for unit in 0..<6 {
            var one = weights
            try one.visit { (name, tensor) throws(AccrueError) in
                if name == "last.weight" { tensor = try Tensor((0..<12).map { Float($0 == unit ? 1 : 0) }, shape: [2, 6]) }
                if name == "last.bias" { tensor = try tensor.zerosLike() }
            }
            hidden[unit] = try Self.outputs(network, one, x, rate: 0, isShared: false)[0]
        }
        #expect(hidden.contains { $0 > 0 })
        let plain = try Self.outputs(network, weights, x, rate: 0, isShared: false)
        let drawn = try Self.outputs(network, weights, try x.expanded([n, 5]), rate: rate, isShared: false)
        for i in 0..<2 {
            for j in i..<2 {
                let products = (0..<n).map { (drawn[2 * $0 + i] - plain[i]) * (drawn[2 * $0 + j] - plain[j]) }
                let mean = products.reduce(0, +) / Double(n), spread = products.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(n)
                let exact = rate / (1 - rate) * (0..<6).reduce(0) { $0 + last[6 * i + $1] * last[6 * j + $1] * hidden[$1] * hidden[$1] }
                #expect(abs(mean - exact) < 4 * (spread / Double(n)).squareRoot(), "\(i) \(j): \(mean), \(exact)")
                guard i == j else { continue }
                let average = (0..<n).reduce(0) { $0 + drawn[2 * $1 + i] } / Double(n)
                #expect(abs(average - plain[i]) < 4 * (exact / Double(n)).squareRoot(), "\(i): \(average), \(plain[i])")
            }
        }
    }

    @Test("rows that share a draw have the same units dropped, others each its own; a key says which, on any thread; a rate of 0 changes no bit")
    func keys() throws {
        let network = Self.network(batchNorm: true), weights = try network.initialWeights(key: Self.key), x = try (try Self.key.folding("x").normal([1, 5])).expanded([64, 5])
        func distinct(_ values: [Double]) -> Int { Set((0..<64).map { values[2 * $0] }).count }
        let shared = try Self.outputs(network, weights, x, rate: 0.5, isShared: true), own = try Self.outputs(network, weights, x, rate: 0.5, isShared: false)
        #expect(distinct(shared) == 1 && distinct(own) > 2)
        #expect(try Self.outputs(network, weights, x, rate: 0.5, key: Self.key.folding(1), isShared: false) != own)
        var found = [[Double]?](repeating: nil, count: 4)
        found.withUnsafeMutableBufferPointer { buffer in
            nonisolated(unsafe) let places = buffer
            DispatchQueue.concurrentPerform(iterations: 4) { places[$0] = try? Self.outputs(network, weights, x, rate: 0.5, isShared: false) }
        }
        #expect(found.allSatisfy { $0 == own })
        var plain = PlainPass(weights, statistics: ["hidden.norm": (try .full([6], 0.1), try .full([6], 2))])
        #expect(try Self.outputs(network, weights, x, rate: 0, isShared: false) == network.apply(x, &plain).doubles())
    }

    @Test("only units behind the named layers are dropped, and those of an output never")
    func behind() throws {
        let network = Self.network(), weights = try network.initialWeights(key: Self.key), x = try Self.key.folding("x").normal([8, 5])
        let plain = try Self.outputs(network, weights, x, rate: 0, isShared: false)
        #expect(try Self.outputs(network, weights, x, rate: 0.9, behind: ["last"], isShared: false) == plain)
        #expect(try Self.outputs(network, weights, x, rate: 0.9, behind: ["hidden"], isShared: false) == Self.outputs(network, weights, x, rate: 0.9, isShared: false))
        #expect(try Self.outputs(network, weights, x, rate: 0.9, isShared: false) != plain)
    }

    @Test("a convolution whose units are dropped is dropout, then pooling; one whose units are not is what it is without dropout")
    func pooled() throws {
        let network = Network(
            layers: [.affine(.init("conv", .convolution(kernel: 3, padding: 1), inputs: 1, outputs: 4)), .relu, .maxPool(size: 2, stride: 2), .flatten,
                .affine(.init("hidden", .dense, inputs: 64, outputs: 6)), .relu, .affine(.init("last", .dense, inputs: 6, outputs: 2))], inputShape: [1, 8, 8])
        let weights = try network.initialWeights(key: Self.key), x = try Self.key.folding("x").normal([5, 1, 8, 8])
        let conv = try #require(network.affineLayers.first)
        var plain = PlainPass(weights), behind = DropoutPass(PlainPass(weights), network: network, behind: ["hidden"], rate: 0.5, key: Self.key, isShared: false)
        #expect(try behind.pooledConvolution(conv, x).doubles() == plain.pooledConvolution(conv, x).doubles())
        var all = DropoutPass(PlainPass(weights), network: network, rate: 0.5, key: Self.key, isShared: false)
        let dropped = try all.affine(conv, x).doubles(), whole = try plain.affine(conv, x).doubles(), pooled = try all.pooledConvolution(conv, x).doubles()
        #expect(zip(dropped, whole).allSatisfy { $0 == 0 || abs($0 - 2 * $1) < 1e-5 } && dropped.count { $0 == 0 } > 400)
        for (index, value) in pooled.enumerated() {
            let (plane, row, column) = (index / 16, index / 4 % 4, index % 4), corner = 64 * plane + 16 * row + 2 * column
            #expect(value == [0, dropped[corner], dropped[corner + 1], dropped[corner + 8], dropped[corner + 9]].max())
        }
    }
}
