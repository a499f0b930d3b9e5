import AccrueCore
import AccrueTensor
import Foundation
import Testing

@testable import AccrueBayes
@testable import AccrueMethods

@Suite struct VarianceNetworkTests {
    init() { EngineFingerprint.beginThread() }

    private static let key = RandomKey(seed: 14)

    private static func settings(_ more: [String: JSONValue] = [:]) -> JSONValue {
        .object(
            ["model": ["kind": "mlp", "hidden": [16, 16]], "layers": ["dense2"], "epochs": 30, "batch": 20, "learningRate": 0.01].merging(more) { $1 })
    }

    private static func pipeline(_ settings: JSONValue, _ schema: Schema = Scenario.classes(3, [2]), shards: Int = 1) -> PipelineDeclaration {
        PipelineDeclaration(name: "variance", method: "VarianceNetwork", seed: 1, schema: schema, settings: settings, round: .init(chunks: 1), shards: shards)
    }

    private static func run(_ settings: JSONValue, shards: Int = 1) throws -> [Data] {
        let pipeline = pipeline(settings, shards: shards), rows = try Scenario.blobs(1, 240)
        var states: [Data] = []
        _ = try LocalRun(pipeline: pipeline, method: try MethodCatalog.standard.make(pipeline), rows: rows, chunks: [0..<120, 120..<240])
            .run { (version) throws(AccrueError) in states.append(version.state) }
        return states
    }

    private static func loaded(_ settings: JSONValue, _ state: Data) throws -> any LoadedState { try MethodCatalog.standard.make(pipeline(settings)).load(state) }

    private static func ask(_ state: any LoadedState, _ verb: String = "predict", _ header: JSONValue = [:], count: Int = 90) throws -> QueryBytes {
        try state.answer(QueryBytes(verb: verb, header: header, tensors: try Scenario.blobs(2, count).tensors), key: key)
    }

    /// The largest distance of two samples' distribution functions.
    private static func distance(_ a: [Double], _ b: [Double]) -> Double {
        let a = a.sorted(), b = b.sorted()
        var i = 0, j = 0, largest = 0.0
        while i < a.count, j < b.count {
            if a[i] <= b[j] { i += 1 } else { j += 1 }
            largest = max(largest, abs(Double(i) / Double(a.count) - Double(j) / Double(b.count)))
        }
        return largest
    }

    @Test("a dense layer's outputs are distributed as with drawn weights: x = (1, 2), σ = (½, ¼) has deviation √½ about the bias")
    func dense() throws {
        let n = 200_000, layer = Layer.Affine("a", .dense, inputs: 2, outputs: 1)
        let weights = NamedTensors([("a.bias", try Tensor([Float(0.3)], shape: [1]))]), sigma = try Tensor([Float(0.5), 0.25], shape: [1, 2])
        let x = try Tensor([Float(1), 2], shape: [1, 2])
        var pass = VariancePass(PlainPass(weights), weights: weights, variances: NamedTensors([("a.weight", try sigma.squared())]), key: Self.key, isShared: false)
        let drawn = try pass.affine(layer, try x.expanded([n, 2])).doubles()
        let explicit = try ((try Self.key.folding("weights").normal([n, 2]) * sigma) * x).sum(1).doubles().map { $0 + Double(Float(0.3)) }
        var moments = Moments(dimension: 1)
        for value in drawn { moments.add([value]) }
        #expect(abs(moments.mean[0] - Double(Float(0.3))) < 4 * 0.707107 / Double(n).squareRoot())
        #expect(abs(moments.variances[0].squareRoot() / 0.707107 - 1) < 4 / Double(2 * n).squareRoot())
        // Of two samples of one distribution, the distance is below 1.95 √(2/n) with a chance of 0.999.
        #expect(Self.distance(drawn, explicit) < 1.95 * (2 / Double(n)).squareRoot())
        // Shared: one ζ for all rows.
        var shared = VariancePass(PlainPass(weights), weights: weights, variances: NamedTensors([("a.weight", try sigma.squared())]), key: Self.key, isShared: true)
        #expect(Set(try shared.affine(layer, try x.expanded([5, 2])).floats()).count == 1)
    }

    @Test("a convolution's outputs have the variances of drawn kernels at every position, and no covariance between positions, where those have one")
    func convolution() throws {
        let n = 20_000, layer = Layer.Affine("a", .convolution(kernel: 2, padding: 0), inputs: 1, outputs: 1, hasBias: false)
        let sigma = try Self.key.folding("sigma").uniform([1, 1, 2, 2]), x = try Self.key.folding("x").normal([1, 1, 3, 3])
        var pass = VariancePass(PlainPass(NamedTensors()), weights: NamedTensors(), variances: NamedTensors([("a.weight", try sigma.squared())]), key: Self.key, isShared: false)
        let drawn = try pass.affine(layer, try x.expanded([n, 1, 3, 3])).reshaped([n, 4]).cast(to: .f64)
        let kernels = try (try Self.key.folding("kernels").normal([n, 4])) * (try sigma.reshaped([1, 4]))
        let patches = try x.unfolded(2).reshaped([4, 4])
        let explicit = try kernels.matmul(patches).cast(to: .f64)
        func covariance(_ sample: Tensor) throws -> [Double] { try (try sample.transposed().matmul(sample) / Double(n)).doubles() }
        let truth = try (try patches.transposed().matmul(try patches * (try sigma.squared().reshaped([4, 1])))).doubles()
        let ours = try covariance(drawn), theirs = try covariance(explicit)
        for i in 0..<4 {
            for j in 0..<4 {
                let scale = (truth[5 * i] * truth[5 * j]).squareRoot(), error = 5 * scale * (2 / Double(n)).squareRoot()
                #expect(abs(theirs[4 * i + j] - truth[4 * i + j]) < error)
                #expect(abs(ours[4 * i + j] - (i == j ? truth[4 * i + j] : 0)) < error)
            }
        }
        #expect((0..<16).contains { $0 % 5 != 0 && abs(truth[$0]) > 0.2 * (truth[5 * ($0 / 4)] * truth[5 * ($0 % 4)]).squareRoot() })
    }

    @Test("with the same noise a loss's gradient by σ is that of finite differences, odd in σ, and the loss is even")
    func gradient() throws {
        let network = Network(
            layers: [.affine(.init("a", .dense, inputs: 3, outputs: 4)), .relu, .affine(.init("b", .dense, inputs: 4, outputs: 4)), .relu, .affine(.init("c", .dense, inputs: 4, outputs: 2))],
            inputShape: [3])
        var list: [(String, Tensor)] = [("inputs", try Self.key.folding("x").normal([5, 3], dtype: .f64))]
        for layer in network.affineLayers {
            list.append((layer.weight, try Self.key.folding(layer.name).normal(layer.weightShape, dtype: .f64)))
            list.append((layer.bias, try Self.key.folding(layer.name).folding(1).normal([layer.outputs], dtype: .f64)))
        }
        func loss(_ w: NamedTensors) throws(AccrueError) -> Tensor {
            var pass = VariancePass(
                PlainPass(w), weights: w, variances: NamedTensors([("b.weight", try w.tensor("b.weight").squared())]), key: Self.key, isShared: false)
            return try network.apply(try w.tensor("inputs"), &pass).crossEntropy(try Tensor([0, 1, 1, 0, 1]))
        }
        let weights = NamedTensors(list)
        let (value, slope) = try valueAndGradient(at: weights, of: loss)
        for (name, tensor) in slope.tensors {
            let along = try Self.key.folding("along").folding(name).normal(tensor.shape, dtype: .f64), h = 1e-6
            func moved(_ step: Double) throws -> Double {
                var copy = weights
                try copy.visit { (other, value) throws(AccrueError) in if other == name { value = try value + (along * step) } }
                return try loss(copy).item()
            }
            let difference = (try moved(h) - moved(-h)) / (2 * h), predicted = try (tensor * along).sum().item()
            #expect(abs(difference - predicted) <= 1e-6 * max(1, abs(difference)), "\(name)")
        }
        var mirrored = weights
        try mirrored.visit { (name, value) throws(AccrueError) in if name == "b.weight" { value = try value.negated() } }
        let (even, odd) = try valueAndGradient(at: mirrored, of: loss)
        #expect(try even.item() == value.item())
        for (a, b) in zip(try odd.tensor("b.weight").doubles(), try slope.tensor("b.weight").doubles()) { #expect(a == -b) }
    }

    @Test("variances of 0 make a constant layer, and a layer of means that vanish beside their spread is a variance layer")
    func limits() throws {
        let layer = Layer.Affine("a", .dense, inputs: 6, outputs: 3), x = try Self.key.folding("x").normal([4, 6])
        let weights = NamedTensors([("a.bias", try Self.key.folding("bias").normal([3]))])
        var still = VariancePass(PlainPass(weights), weights: weights, variances: NamedTensors([("a.weight", try .zeros([3, 6]))]), key: Self.key, isShared: false)
        let y = try still.affine(layer, x).doubles(), bias = try weights.tensor("a.bias").doubles()
        for (index, value) in y.enumerated() { #expect(abs(value - bias[index % 3]) < 1e-5) }
        // N(μ, αμ²) with α = 10⁸: the total variation from N(0, αμ²) of 6 weights is at most ½ √(6/α) = 1.2·10⁻⁴, and a draw moves by x μ alone.
        let mean = try Self.key.folding("mean").normal([3, 6]) * 1e-4, variances = NamedTensors([("a.weight", try mean.squared() * 1e8)])
        let means = NamedTensors([("a.weight", mean), ("a.bias", try weights.tensor("a.bias"))])
        let both = NamedTensors([("a.weight", try variances.tensor("a.weight")), ("a.bias", try .zeros([3]))])
        let dropout = LocalReparameterisationPass(mean: means, variance: both, key: Self.key)
        var zero = VariancePass(PlainPass(weights), weights: weights, variances: variances, key: Self.key, isShared: false)
        let a = try dropout.affine(layer, x).doubles(), b = try zero.affine(layer, x).doubles(), shift = try x.linear(mean, nil).doubles()
        for index in a.indices { #expect(abs(a[index] - b[index] - shift[index]) < 1e-5) }
        #expect(shift.allSatisfy { abs($0) < 2e-3 })
    }

    @Test("leaving the means out changes no prediction by more than the total variation of the weights' distributions, 2Φ(½√(D/α)) − 1")
    func variation() throws {
        // D = 12 weights, α = 100, and a function of the draw that is 0 or 1: whether the first output is the larger one.
        let n = 100_000, alpha = 100.0, d = 12.0, layer = Layer.Affine("a", .dense, inputs: 6, outputs: 2)
        let mean = try Self.key.folding("mean").normal([2, 6]), x = try Self.key.folding("x").normal([1, 6]).expanded([n, 6]), zeros = try Tensor.zeros([2])
        let variances = NamedTensors([("a.weight", try mean.squared() * alpha), ("a.bias", zeros)])
        func share(_ mean: Tensor) throws -> Double {
            let pass = LocalReparameterisationPass(mean: NamedTensors([("a.weight", mean), ("a.bias", zeros)]), variance: variances, key: Self.key)
            let y = try pass.affine(layer, x).doubles()
            return Double((0..<n).count { y[2 * $0] > y[2 * $0 + 1] }) / Double(n)
        }
        let variation = erf((d / alpha).squareRoot() / 2 / 2.0.squareRoot())
        #expect(variation <= 0.5 * (d / alpha).squareRoot())
        let with = try share(mean), without = try share(try mean.zerosLike())
        // The same noise in both: what differs is the mean alone.
        #expect(abs(with - without) <= variation + 4 * (0.5 / Double(n)).squareRoot() && with != without, "\(with), \(without), \(variation)")
        // The sufficient test of the variance phase, log α > log D + 4, keeps it below 0.054.
        #expect(abs(erf(exp(-2) / 2 / 2.0.squareRoot()) - 0.0539) < 1e-3)
    }

    @Test("the divergence of zero-mean Gaussians is that of closed form, with its gradient, and 0 at the prior")
    func divergence() throws {
        let ratios = [0.2, 0.9, 1 + 1e-9, 1.5, 40]
        let prior = try Tensor([Double](repeating: 0.3, count: 5), shape: [5])
        let variance = try Tensor(ratios.map { 0.3 * $0 }, shape: [5])
        let values = try KullbackLeibler.zeroMean(variance, from: prior).doubles()
        for (value, r) in zip(values, ratios) { #expect(abs(value - 0.5 * (r - 1 - log(r))) < 1e-10) }
        let (_, slope) = try valueAndGradient(at: NamedTensors([("v", variance)])) { (w) throws(AccrueError) in
            try KullbackLeibler.zeroMean(try w.tensor("v"), from: prior).sum()
        }
        for (s, r) in zip(try slope.tensor("v").doubles(), ratios) { #expect(abs(s - 0.5 * (1 / 0.3 - 1 / (0.3 * r))) < 1e-8) }
        // As the divergence of factorised Gaussians has it.
        let other = KullbackLeibler.factorised(mean: [0], logScale: [0.5 * log(0.45)], priorMean: [0], priorLogScale: [0.5 * log(0.3)]).value
        #expect(abs(values[3] - other) < 1e-10)
    }

    /// Four blobs through a layer of two units with weights of mean zero: methods/variance.md, section 7.6, here with ReLUs in the place of LeakyReLUs.
    @Test("four blobs pass through two zero-mean units: one draw, an average, and a guess by expectations", arguments: [1, 2, 3] as [UInt64])
    func toy(seed: UInt64) throws {
        let schema = Scenario.classes(4, [2])
        func blobs(_ seed: UInt64) throws -> Rows {
            let noise = try RandomKey(seed: seed).folding("blobs").normal([600, 2]).floats()
            var inputs: [Float] = [], labels: [UInt8] = []
            for row in 0..<600 {
                // Centres (3, 3), (3, 10), (10, 3), (10, 10) with unit spread, standardised.
                for column in 0..<2 { inputs.append(((column == 0 ? row / 2 : row) % 2 == 0 ? -3.5 : 3.5) / 3.64 + noise[2 * row + column] / 3.64) }
                labels.append(UInt8(row % 4))
            }
            return try Rows(["inputs": TensorBytes(inputs, shape: [600, 2]), "targets": TensorBytes(labels, shape: [600])], schema: schema, while: "testing")
        }
        let settings = try VarianceNetwork.Settings(
            ["model": ["kind": "mlp", "hidden": [40, 2, 40]], "layers": ["dense2"], "epochs": 3000, "batch": 600, "learningRate": 0.003, "finalRate": 1, "averageTail": 0],
            schema: schema)
        let network = Network(
            layers: [
                .affine(.init("dense1", .dense, inputs: 2, outputs: 40)), .relu, .affine(.init("dense2", .dense, inputs: 40, outputs: 2, hasBias: false)),
                .affine(.init("dense3", .dense, inputs: 2, outputs: 40)), .relu, .affine(.init("dense4", .dense, inputs: 40, outputs: 4)),
            ], inputShape: [2])
        let method = try VarianceNetwork(settings: settings, schema: schema, network: network), keys = RoundKeys(seed: seed, version: 1)
        let round = Round(index: 1, sweep: 0, sweeps: 1, shards: 1, shardRows: 600, roundRows: 600, rowsBefore: 0, sweepKey: keys.sweep(0))
        let work = try method.begin(try method.initialState(key: RoundKeys.initial(seed: seed)), round: round, key: keys.begin)
        let delta = try method.fit(work, to: [try blobs(seed)], round: round, key: keys.fit(sweep: 0, shard: 0)).delta
        let merged = try method.merge([Weighted(delta, rows: 600)], into: work, round: round, key: keys.merge(sweep: 0))
        let state = try method.load(try method.finish(merged, round: round, moments: [], scores: nil, key: keys.finish))
        let held = try blobs(seed + 100)
        func accuracy(_ header: JSONValue) throws -> Double {
            try #require(try state.answer(QueryBytes(verb: "predict", header: header, tensors: held.tensors), key: Self.key).header["figures"]?["accuracy"]?.double)
        }
        #expect(try accuracy(["draws": 101]) >= 0.975)
        #expect(try accuracy(["expectations": true, "diagnostic": true]) == 0.25)
        // One draw for all rows at once is not one a row: mean over ten.
        var single = 0.0
        for draw in 0..<10 {
            let answer = try state.answer(QueryBytes(verb: "predict", header: ["draws": 1], tensors: held.tensors), key: Self.key.folding(draw))
            single += try #require(answer.header["figures"]?["accuracy"]?.double) / 10
        }
        #expect(single >= 0.95, "\(single)")
    }

    @Test("expectations are refused as predictions, and as a diagnostic they guess: every row has the same answer")
    func expectations() throws {
        let state = try Self.loaded(Self.settings(), try #require(try Self.run(Self.settings()).last))
        let error = #expect(throws: AccrueError.self) { try Self.ask(state, "predict", ["expectations": true]) }
        #expect(error?.code == .invalidInput && error?.problem.contains("dense2") == true && error?.hint.contains("diagnostic") == true)
        let guess = try Self.ask(state, "predict", ["expectations": true, "diagnostic": true])
        let guessed = try #require(guess.header["figures"]?["accuracy"]?.double)
        #expect(guess.header["draws"] == 1 && abs(guessed - 1.0 / 3) < 1e-9)
        let p = try #require(guess.tensors["probabilities"]).doubles()
        for row in 0..<90 { for c in 0..<3 { #expect(abs(p[3 * row + c] - p[c]) < 1e-6) } }
        let drawn = try #require(try Self.ask(state, "predict", ["draws": 64]).header["figures"]?["accuracy"]?.double)
        let one = try #require(try Self.ask(state, "predict", ["draws": 1]).header["figures"]?["accuracy"]?.double)
        #expect(drawn > 0.85 && drawn >= one)
        for header in [["diagnostic": true], ["expectations": 3]] as [JSONValue] { #expect(throws: AccrueError.self) { try Self.ask(state, "predict", header) } }
        // Of dropout the expectations are what everybody predicts with.
        let dropping = Self.settings(["noise": "dropout", "rate": 0.2])
        let plain = try Self.ask(try Self.loaded(dropping, try #require(try Self.run(dropping).last)), "predict", ["expectations": true])
        #expect(try #require(plain.header["figures"]?["accuracy"]?.double) > 0.9)
    }

    @Test("what a variance layer knows is which weight has which variance: dealt out anew, the same variances know little")
    func dealtAnew() throws {
        let bytes = try #require(try Self.run(Self.settings()).last)
        var state = try VarianceNetwork.State(bytes: bytes)
        try state.variances.visit { (name, tensor) throws(AccrueError) in
            let values = try tensor.doubles()
            tensor = try Tensor(Self.key.folding(name).permutation(values.count).map { Float(values[$0]) }, shape: tensor.shape)
        }
        func accuracy(_ bytes: Data) throws -> Double {
            try #require(try Self.ask(try Self.loaded(Self.settings(), bytes), "predict", ["draws": 64]).header["figures"]?["accuracy"]?.double)
        }
        let whole = try accuracy(bytes), dealt = try accuracy(state.bytes)
        #expect(whole > 0.85 && dealt < whole - 0.2, "\(whole), \(dealt)")
    }

    @Test("an average of one draw is that draw; draws' mean is never worse than draws are on average")
    func averages() throws {
        let state = try Self.loaded(Self.settings(), try #require(try Self.run(Self.settings()).last))
        // The weights of draw 0, by hand.
        let stored = try VarianceNetwork.State(bytes: try #require(try Self.run(Self.settings()).last))
        var weights = stored.weights.tensors.map { ($0.name, $0.tensor) }
        for (name, variance) in stored.variances.tensors {
            weights.append((name, try variance.squareRoot() * (try Self.key.folding(0).folding(name).normal(variance.shape))))
        }
        let network = try ModelDeclaration(SettingsReader(["model": ["kind": "mlp", "hidden": [16, 16]]], known: ["model"], while: "testing"))
            .network(inputShape: [2], outputs: 3)
        var pass = PlainPass(NamedTensors(weights))
        let inputs = try Tensor(try #require(try Scenario.blobs(2, 90).tensors["inputs"]))
        let draw = try network.apply(inputs, &pass).softmax(1).doubles()
        for (a, b) in zip(try #require(try Self.ask(state, "predict", ["draws": 1]).tensors["probabilities"]).doubles(), draw) { #expect(abs(a - b) < 1e-5) }
        let density = try [1, 4, 16, 64].map { (draws: Int) -> Double in
            try #require(try Self.ask(state, "predict", ["draws": .integer(draws)]).header["figures"]?["logPredictiveDensity"]?.double)
        }
        #expect(density[3] > density[0], "\(density)")
    }

    @Test("merging takes means by rows of variances, not of deviations: one shard is itself, two are the second moment of their mixture")
    func merging() throws {
        let schema = Scenario.classes(3, [2])
        let method = try VarianceNetwork(settings: try .init(Self.settings(), schema: schema), schema: schema), keys = RoundKeys(seed: 1, version: 1)
        let round = Round(index: 1, sweep: 0, sweeps: 1, shards: 2, shardRows: 60, roundRows: 80, rowsBefore: 0, sweepKey: keys.sweep(0))
        let work = try method.begin(try method.initialState(key: Self.key), round: round, key: keys.begin)
        func delta(_ sigma: Double) throws -> VarianceNetwork.Delta {
            var training = work.training
            try training.weights.visit { (name, tensor) throws(AccrueError) in if name == "dense2.weight" { tensor = try .full(tensor.shape, sigma) } }
            return .init(training: training)
        }
        func merged(_ parts: [(Double, Int)]) throws -> Double {
            let merged = try method.merge(try parts.map { Weighted(try delta($0.0), rows: $0.1) }, into: work, round: round, key: keys.merge(sweep: 0))
            return try method.finish(merged, round: round, moments: [], scores: nil, key: keys.finish).variances.tensor("dense2.weight").doubles()[0]
        }
        #expect(abs(try merged([(-0.3, 80)]) - 0.09) < 1e-7)
        // (60 · 0.09 + 20 · 0.25) / 80: the variance of draws from both, in the shares of their rows.
        let two = try merged([(0.3, 60), (-0.5, 20)])
        #expect(abs(two - 0.13) < 1e-7)
        let pooled = try (try Self.key.folding(1).normal([60_000]) * 0.3).doubles() + (try Self.key.folding(2).normal([20_000]) * 0.5).doubles()
        let empirical = pooled.reduce(0) { $0 + $1 * $1 } / 80_000
        let fourth: Double = 3 * (0.75 * 0.0081 + 0.25 * 0.0625)
        // Var w² = E w⁴ − 0.13².
        let error = ((fourth - 0.0169) / 80_000).squareRoot()
        #expect(abs(empirical - two) < 4 * error)
    }

    @Test("on a quadratic loss the changes of all weights sum to what drawing them costs; the estimate by Fisher information agrees")
    func replaceable() throws {
        // −log p = β/2 (y − w·x)² + …: second derivatives β xᵢ².
        let beta = 2.5, x = try Self.key.folding("x").normal([400, 6]), variances = NamedTensors([("dense.weight", try Self.key.folding("v").uniform([1, 6]))])
        let means = try (try x.cast(to: .f64).squared()).mean(0).reshaped([1, 6])
        let exact = try ReplaceableWeights(curvature: NamedTensors([("dense.weight", try means * beta)]), variances: variances)
        // E over w of the loss, less the loss at w = 0: β/2 mean over rows of Σ σᵢ² xᵢ².
        let cost = try (try x.cast(to: .f64).squared() * (try variances.tensor("dense.weight").cast(to: .f64))).sum(1).mean().item() * beta / 2
        #expect(abs(try exact.changes.tensor("dense.weight").sum().item() - cost) < 1e-10)
        let network = Network(layers: [.affine(.init("dense", .dense, inputs: 6, outputs: 1, hasBias: false))], inputShape: [6])
        let draws = try (0..<40).map { (index) throws -> NetworkMember in
            NetworkMember(NamedTensors([("dense.weight", try (try variances.tensor("dense.weight").squareRoot()) * (try Self.key.folding("w").folding(index).normal([1, 6])))]))
        }
        let estimate = try ReplaceableWeights(
            x, network: network, likelihood: .gaussian(noisePrecision: beta), statistics: [:], variances: variances, draws: draws, key: Self.key)
        let truth = try exact.changes.tensor("dense.weight").doubles()
        // Labels are drawn: a squared slope β² e² x², e² of variance 2/β², over 16,000 rows: kurtosis of x adds.
        for (a, b) in zip(try estimate.changes.tensor("dense.weight").doubles(), truth) { #expect(abs(a / b - 1) < 4 * (8 / 16_000.0).squareRoot()) }
        let (frozen, counts) = try exact.frozen(variances, tau: 6 * (truth.sorted()[2] + truth.sorted()[3]) / 2)
        let zeros = try frozen.tensor("dense.weight").doubles().count { $0 == 0 }
        #expect(counts["dense.weight"] == 3 && zeros == 3)
    }

    @Test("weights that the criterion calls replaceable cost little to replace, all of them cost a guess")
    func replacing() throws {
        let state = try Self.loaded(Self.settings(), try #require(try Self.run(Self.settings()).last))
        let few = try Self.ask(state, "replaceable", ["tau": 0.02, "draws": 32]), none = try Self.ask(state, "replaceable", ["tau": 0, "draws": 32])
        let layer = try #require(few.header["layers"]?.array?.first)
        #expect(layer["name"] == "dense2" && layer["weights"] == 256 && (layer["replaceable"]?.int ?? 0) > 0 && (layer["replaceable"]?.int ?? 256) < 256)
        #expect(few.tensors["dense2.change"]?.shape == [101])
        let cost = try #require(few.header["lossOfReplacing"]?.double), all = try #require(few.header["lossOfReplacingAll"]?.double)
        #expect(abs(cost) < 0.1 && all > 0.5, "\(cost), \(all)")
        #expect(none.header["lossOfReplacing"]?.double == 0 && none.header["layers"]?.array?.first?["replaceable"] == 0)
        let dropping = Self.settings(["noise": "dropout"])
        #expect(throws: AccrueError.self) { try Self.ask(try Self.loaded(dropping, try #require(try Self.run(dropping).first)), "replaceable") }
        #expect(throws: AccrueError.self) { try Self.ask(state, "replaceable", ["taw": 1]) }
    }

    @Test("an attack on logistic regression moves against the sign of (p − y) w, its loss grows with ε, and inputs stay in their range")
    func attack() throws {
        let network = Network(layers: [.affine(.init("dense", .dense, inputs: 4, outputs: 1))], inputShape: [4])
        let w: [Float] = [0.7, -1.2, 0.4, 2], member = NetworkMember(NamedTensors([("dense.weight", try Tensor(w, shape: [1, 4])), ("dense.bias", try .full([1], 0.1))]))
        let x = try Self.key.folding("x").uniform([20, 4]), y = try Tensor((0..<20).map { Float($0 % 2) }, shape: [20])
        func attacked(_ epsilon: Double, _ range: ClosedRange<Double> = -10...10, steps: Int = 1) throws -> [Float] {
            try SignAttack(epsilon: epsilon, steps: steps, range: range).attacked(x, y, network: network, likelihood: .bernoulli, members: [member]).floats()
        }
        let before = try x.floats(), after = try attacked(0.1)
        for row in 0..<20 {
            let logit = (0..<4).reduce(Float(0.1)) { $0 + w[$1] * before[4 * row + $1] }, p = 1 / (1 + exp(-logit))
            for column in 0..<4 {
                let direction: Float = (p - Float(row % 2)) * w[column] > 0 ? 0.1 : -0.1
                #expect(abs(after[4 * row + column] - before[4 * row + column] - direction) < 1e-6)
            }
        }
        var last = -Double.infinity
        for epsilon in [0, 0.01, 0.05, 0.1, 0.3, 1] {
            let moved = try Tensor(try attacked(epsilon), shape: [20, 4])
            let loss = try network.logDensities(moved, y, likelihood: .bernoulli, members: [member]).sum().negated().item()
            #expect(loss > last)
            last = loss
        }
        // A linear model's slope never turns: ten steps are one.
        for (a, b) in zip(try attacked(0.2, steps: 10), try attacked(0.2)) { #expect(abs(a - b) < 1e-5) }
        #expect(try attacked(0.5, 0...1).allSatisfy { $0 >= 0 && $0 <= 1 })
        #expect(try attacked(0) == before)
    }

    @Test("attacks over the wire: accuracy falls with ε, the averaged prediction is attacked, and mistakes are named")
    func attacks() throws {
        let state = try Self.loaded(Self.settings(), try #require(try Self.run(Self.settings()).last))
        let answer = try Self.ask(state, "attack", ["epsilons": [0, 0.2, 1], "draws": 16, "steps": 2])
        let accuracies = try #require(answer.header["attacks"]?.array).map { try #require($0["accuracy"]?.double) }
        #expect(accuracies.count == 3 && accuracies[0] > 0.85 && accuracies[2] < accuracies[0], "\(accuracies)")
        let correct = try #require(answer.tensors["correct"]), marks = correct.doubles()
        #expect(answer.header["rows"]?.int == correct.shape[0] && correct.shape[1] == 3)
        for column in 0..<3 {
            let sum = stride(from: column, to: marks.count, by: 3).reduce(0) { $0 + marks[$1] }
            #expect(abs(sum / Double(correct.shape[0]) - accuracies[column]) < 1e-12)
        }
        let summary = try Self.ask(state, "attack", ["epsilons": [0, 0.2, 1], "draws": 16, "steps": 2, "summary": true])
        #expect(summary.tensors.isEmpty && summary.header == answer.header)
        for header in [["epsilons": []], ["epsilons": [-1]], ["steps": 0], ["epsilon": 1], ["summary": 1]] as [JSONValue] {
            let error = #expect(throws: AccrueError.self) { try Self.ask(state, "attack", header) }
            #expect(error?.code == .invalidInput)
        }
        let blind = #expect(throws: AccrueError.self) {
            try state.answer(QueryBytes(verb: "attack", header: [:], tensors: ["inputs": try #require(try Scenario.blobs(2, 4).tensors["inputs"])]), key: Self.key)
        }
        #expect(blind?.hint.contains("targets") == true)
    }

    @Test("the version before holds variances back from the second round on, the more the larger the temperature")
    func recursion() throws {
        func moved(_ temperature: Double, _ precision: Double) throws -> (variances: Double, weights: Double) {
            let states = try Self.run(Self.settings(["temperature": .number(temperature), "precision": .number(precision)])).map { try VarianceNetwork.State(bytes: $0) }
            func distance(_ a: NamedTensors, _ b: NamedTensors) throws -> Double {
                try zip(a.tensors, b.tensors).reduce(0) { $0 + (try (try $1.0.tensor - $1.1.tensor).squared().sum().item()) }
            }
            return (try distance(states[2].variances, states[1].variances), try distance(states[2].weights, states[1].weights))
        }
        let free = try moved(0, 0), held = try moved(100, 100)
        #expect(held.variances < 0.3 * free.variances && held.weights < 0.3 * free.weights, "\(free), \(held)")
    }

    @Test("a prior holds the first round's variances near its own, the more the larger the temperature")
    func prior() throws {
        func deviation(_ more: [String: JSONValue]) throws -> Double {
            let settings = Self.settings(["epochs": 40, "learningRate": 0.05].merging(more) { $1 }), pipeline = Self.pipeline(settings)
            let last = try LocalRun(pipeline: pipeline, method: try MethodCatalog.standard.make(pipeline), rows: try Scenario.blobs(1, 120), chunks: [0..<120])
                .run { (_) throws(AccrueError) in }
            return try VarianceNetwork.State(bytes: last.state).variances.tensor("dense2.weight").mean().item().squareRoot()
        }
        #expect(try deviation(["temperature": 30]) == deviation([:]))
        // The divergence from Student's t of 3 degrees of freedom is least at σ = 1.26.
        for (kind, width) in [(["kind": "student", "degrees": 3] as JSONValue, 1.26), (["kind": "normal", "deviation": 0.5], 0.5)] {
            let held = try deviation(["prior": kind, "temperature": 100]), loosely = try deviation(["prior": kind, "temperature": 0.3])
            #expect(abs(held - width) < abs(loosely - width) && abs(held - width) < 0.15 * width, "\(kind.canonical): \(loosely), \(held)")
        }
    }

    @Test("settings that make no sense, and a bare network, are refused with what there is")
    func refused() throws {
        func problem(_ settings: JSONValue) -> String {
            do { _ = try MethodCatalog.standard.make(Self.pipeline(settings)); return "" } catch { return error.problem + " " + error.hint }
        }
        #expect(problem(["model": ["kind": "mlp"]]).contains("settings.layers") && problem(Self.settings(["layers": ["dense9"]])).contains("dense1, dense2, dense3"))
        #expect(problem(Self.settings(["layers": []])).contains("nothing would be random") && problem(Self.settings(["layers": ["dense3"]])).contains("last layer"))
        #expect(problem(Self.settings(["layers": ["dense2", "dense2"]])).contains("different") && problem(Self.settings(["rate": 0.5])).contains("settings.rate"))
        #expect(problem(Self.settings(["noise": "gauss"])).contains("variance, dropout") && problem(Self.settings(["temperature": -1])).contains("settings.temperature"))
        #expect(problem(Self.settings(["prior": ["kind": "student", "deviation": 1]])).contains("belongs to kind normal"))
        #expect(problem(Self.settings(["prior": ["kind": "cauchy"]])).contains("none, normal, student") && problem(Self.settings(["prior": ["kind": "student", "degrees": 0]])).contains("settings.prior.degrees"))
        #expect(problem(Self.settings(["prior": ["kind": "normal"], "temperature": 0])).contains("no weight"))
        #expect(problem(Self.settings(["prior": ["kind": "normal"], "noise": "dropout"])).contains("settings.prior"))
        let method = try MethodCatalog.standard.make(Self.pipeline(Self.settings())), first = try method.initialState(key: Self.key)
        let bare = Safetensors(tensors: ["dense1.weight": TensorBytes([Float](repeating: 0, count: 32), shape: [16, 2])]).encode()
        let error = #expect(throws: AccrueError.self) { try method.adopt(bare, into: first, key: Self.key) }
        #expect(error?.code == .invalidInput && error?.problem.contains("dense2") == true)
    }
}
