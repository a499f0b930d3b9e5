import AccrueBayes
import AccrueCore
import AccrueTensor
import Testing

/// Networks full of zeros, made smaller.
@Suite struct PrunedNetworkTests {
    init() { EngineFingerprint.beginThread() }

    /// Random weights of which a share is kept, biases of both signs.
    private static func weights(_ network: Network, kept: Double) throws -> NamedTensors {
        let key = RandomKey(seed: 3)
        var list: [(String, Tensor)] = []
        for layer in network.affineLayers {
            let mask = try key.folding(layer.name).folding("mask").uniform(layer.weightShape).isBelow(kept)
            let weight = try key.folding(layer.name).normal(layer.weightShape)
            list.append((layer.weight, try mask.select(weight, try weight.zerosLike())))
            if layer.hasBias { list.append((layer.bias, try key.folding(layer.bias).normal([layer.outputs]))) }
        }
        return NamedTensors(list)
    }

    private static func model(_ settings: JSONValue, _ shape: [Int]) throws -> Network {
        try ModelDeclaration(try SettingsReader(["model": settings], known: ["model"], while: "testing")).network(inputShape: shape, outputs: 4)
    }

    private static let models: [(JSONValue, [Int])] = [
        (["kind": "mlp", "hidden": [60, 40]], [50]), (["kind": "mlp", "hidden": [30], "bias": false], [20]), (["kind": "lenet5"], [1, 16, 16]),
        (["kind": "conv3", "widths": [8, 8, 8]], [2, 8, 8]), (["kind": "linear"], [9]),
    ]

    @Test("the smaller network computes what the one with zeros does", arguments: 0..<models.count, [0.3, 0.04, 0.01, 0])
    func same(model: Int, kept: Double) throws {
        let (settings, shape) = Self.models[model]
        let network = try Self.model(settings, shape), weights = try Self.weights(network, kept: kept)
        let x = try RandomKey(seed: 5).normal([30] + network.inputShape)
        var pass = PlainPass(weights)
        let whole = try network.apply(x, &pass), pruned = try PrunedNetwork(network, weights), small = try pruned.outputs(x)
        #expect(whole.shape == small.shape)
        #expect(try (whole - small).absolute().largest().item() <= 1e-5 * max(1, try whole.absolute().largest().item()))
        #expect(pruned.weights.elementCount <= weights.elementCount + 4)
        if kept <= 0.04, model == 0 { #expect(pruned.weights.elementCount < weights.elementCount / 2) }
    }

    @Test("rows of a matrix without its zeros give the same products")
    func compressed() throws {
        let network = try Self.model(["kind": "linear", "bias": false], [40]), weights = try Self.weights(network, kept: 0.2)
        let weight = try weights.tensor("dense.weight"), x = try RandomKey(seed: 6).normal([1, 40])
        let rows = CompressedRows(try weight.floats(), width: 40)
        #expect(rows.values.count == (try weight.floats().count { $0 != 0 }) && rows.rows.count == 5)
        for (a, b) in zip(rows.times(try x.floats()), try x.linear(weight, nil).floats()) { #expect(abs(a - b) <= 1e-6 * max(1, abs(b))) }
    }

    @Test("an export names every layer and says how large it is")
    func export() throws {
        let network = try Self.model(["kind": "lenet5"], [1, 16, 16]), weights = try Self.weights(network, kept: 0.02)
        for form in PrunedNetwork.Form.allCases {
            let (tensors, header) = try PrunedNetwork.export(network, weights, form: form)
            #expect(header["bytes"]?.int == tensors.values.reduce(0) { $0 + $1.data.count })
            #expect(try #require(header["bytes"]?.int) < #require(header["denseBytes"]?.int))
            #expect(header["layers"]?.array?.count == network.layers.count)
            let words = form == .compact ? ["weight", "bias"] : ["values", "columns", "rows", "bias"]
            for layer in network.affineLayers { for word in words { #expect(tensors["\(layer.name).\(word)"] != nil) } }
        }
    }

    @Test("a report counts weights, neurons and inputs that are kept")
    func report() throws {
        let network = try Self.model(["kind": "linear"], [3])
        let logAlpha = NamedTensors([("dense.weight", try Tensor([Float(-20), 5, 2.9, 5, 5, 5, 3, 5, 5, 5, 5, 40], shape: [4, 3]))])
        let layer = try #require(try SparsityReport(network, logAlpha: logAlpha, threshold: 3).layers.first)
        #expect(layer.weights == 12 && layer.kept == 2 && layer.outputsKept == 1 && layer.inputsKept == 2)
        #expect(layer.logAlpha.first == 1 && layer.logAlpha.last == 1 && layer.logAlpha.reduce(0, +) == 12)
        #expect(try SparsityReport(network, logAlpha: logAlpha, threshold: 3.1).kept == 3)
    }
}
