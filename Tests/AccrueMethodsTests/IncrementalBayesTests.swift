import AccrueBayes
import AccrueCore
import AccrueTensor
import Foundation
import Testing

@testable import AccrueMethods

/// Rows (1,0), (1,1), (1,2), (1,3) with targets 1, 2, 2, 4, noise precision 4, prior N(0, I), through the whole method.
@Suite struct IncrementalBayesTests {
    private static let schema = Schema([
        TensorSchema("inputs", role: .input, dtype: .f64, shape: [2]), TensorSchema("targets", role: .target, dtype: .f64, shape: []),
    ])
    private static let inputs: [[Double]] = [[1, 0], [1, 1], [1, 2], [1, 3]]
    private static let targets: [Double] = [1, 2, 2, 4]

    private static func settings(_ family: String) -> JSONValue {
        [
            "model": ["kind": "linear", "bias": false], "likelihood": ["kind": "gaussian", "noisePrecision": 4], "inference": "variational",
            "family": .string(family),
        ]
    }

    private static func rows(_ order: [Int]) throws -> Rows {
        try Rows(
            [
                "inputs": TensorBytes(order.flatMap { inputs[$0] }, shape: [order.count, 2]),
                "targets": TensorBytes(order.map { targets[$0] }, shape: [order.count]),
            ], schema: schema, while: "testing")
    }

    /// What `describe` says after a run over the rows in this order.
    private static func describe(
        _ family: String, order: [Int] = [0, 1, 2, 3], chunk: Int = 4, chunksPerRound: Int = 1, shards: Int, sweeps: Int = 1
    ) throws -> (mean: [Double], precision: [Double], covariance: [Double]) {
        let pipeline = PipelineDeclaration(
            name: "golden", method: "IncrementalBayes", seed: 1, schema: schema, settings: settings(family), round: .init(chunks: chunksPerRound), shards: shards,
            sweeps: sweeps)
        let method = try MethodCatalog.standard.make(pipeline)
        let chunks = stride(from: 0, to: 4, by: chunk).map { $0..<min(4, $0 + chunk) }
        let last = try LocalRun(pipeline: pipeline, method: method, rows: try rows(order), chunks: chunks).run { (_) throws(AccrueError) in }
        let header = try method.load(last.state).answer(QueryBytes(verb: "describe", header: [:]), key: RandomKey(seed: 1)).header
        func numbers(_ name: String) -> [Double] { header[name].map(Expectation.flatten) ?? [] }
        return (numbers("mean"), numbers("precision"), numbers("covariance"))
    }

    private static func near(_ left: [Double], _ right: [Double], _ tolerance: Double) -> Bool {
        left.count == right.count && zip(left, right).allSatisfy { abs($0 - $1) <= tolerance }
    }

    private static let mean = [0.8244274809160306, 0.9160305343511451]

    @Test("family full is the exact posterior for any shards and any chunks", arguments: [1, 2, 4], [1, 2, 3, 4])
    func full(shards: Int, chunk: Int) throws {
        for chunksPerRound in [1, 2, 4] {
            let found = try Self.describe("full", chunk: chunk, chunksPerRound: chunksPerRound, shards: shards)
            #expect(Self.near(found.mean, Self.mean, 1e-9))
            #expect(Self.near(found.covariance, [0.1450381679389313, -0.0610687022900763, -0.0610687022900763, 0.0432569974554707], 1e-9))
        }
    }

    @Test("family diagonal in one round has the exact precisions for any shards", arguments: [1, 2, 3, 4])
    func precisions(shards: Int) throws {
        #expect(Self.near(try Self.describe("diagonal", shards: shards).precision, [17, 57], 1e-9))
    }

    @Test("family diagonal with one shard has the optimal mean; part by part it is inexact by construction")
    func diagonal() throws {
        #expect(Self.near(try Self.describe("diagonal", shards: 1).mean, Self.mean, 1e-9))
        let sequential = try Self.describe("diagonal", chunk: 2, shards: 1)
        #expect(Self.near(sequential.precision, [17, 57], 1e-9))
        #expect(Self.near(sequential.mean, [0.879704260, 0.886734137], 1e-9))
    }

    @Test("two shards: the first sweep's mean is biased as known, later sweeps reach the optimum")
    func sweeps() throws {
        #expect(Self.near(try Self.describe("diagonal", shards: 2).mean, [0.278166, 1.345502], 1e-6))
        #expect(Self.near(try Self.describe("diagonal", order: [0, 2, 1, 3], shards: 2).mean, [0.890, 0.893], 5e-4))
        #expect(Self.near(try Self.describe("diagonal", shards: 2, sweeps: 2).mean, [0.736, 0.952], 5e-4))
        #expect(Self.near(try Self.describe("diagonal", shards: 2, sweeps: 6).mean, [0.819, 0.919], 5e-4))
        #expect(Self.near(try Self.describe("diagonal", shards: 2, sweeps: 21).mean, [0.824426, 0.916031], 1e-6))
        #expect(Self.near(try Self.describe("diagonal", shards: 2, sweeps: 100).mean, Self.mean, 1e-6))
    }

    @Test("stochastic mean-field training reaches the factorised optimum")
    func stochastic() throws {
        EngineFingerprint.beginThread()
        var value = Self.settings("diagonal").object ?? [:]
        value["epochs"] = 3000
        value["batch"] = 4
        value["learningRate"] = 0.02
        value["finalRate"] = 0
        let settings = try IncrementalBayes.Settings(.object(value), schema: Self.schema)
        let network = try settings.model.network(inputShape: [2], outputs: 1)
        let design = try Design(schema: Self.schema, network: network, likelihood: settings.likelihood)
        let method = ErasedMethod(MeanField(model: IncrementalModel(settings: settings, schema: Self.schema, network: network, design: design)))
        let pipeline = PipelineDeclaration(name: "golden", method: "IncrementalBayes", seed: 1, schema: Self.schema, settings: .object(value), round: .init(chunks: 1))
        let last = try LocalRun(pipeline: pipeline, method: method, rows: try Self.rows([0, 1, 2, 3]), chunks: [0..<4]).run { (_) throws(AccrueError) in }
        let state = try Safetensors.decode(last.state)
        let mean = try #require(state.tensors["mean.dense.weight"]).doubles(), scale = try #require(state.tensors["logScale.dense.weight"]).doubles()
        // A rate that falls to zero over 3,000 steps averages the gradient's noise away to about a hundredth.
        #expect(Self.near(mean, Self.mean, 0.03))
        for (found, precision) in zip(scale, [17.0, 57.0]) { #expect(abs(found + 0.5 * log(precision)) < 0.05) }
    }

    @Test("squared gradients are those of one row at a time, for dense layers and convolutions")
    func squaredGradients() throws {
        EngineFingerprint.beginThread()
        let key = RandomKey(seed: 21)
        let network = try ModelDeclaration(
            SettingsReader(["model": ["kind": "conv3", "widths": [3, 2, 2]]], known: ["model"], while: "testing")
        ).network(inputShape: [2, 8, 8], outputs: 3)
        let weights = try network.initialWeights(key: key)
        let inputs = try key.folding("x").normal([5, 2, 8, 8]), targets = try Tensor([0, 2, 1, 1, 0])
        let squares = try network.squaredGradients(weights, inputs: inputs) { (outputs) throws(AccrueError) in try outputs.crossEntropy(targets, .sum) }
        var expected = try weights.zeros()
        for row in 0..<5 {
            let (_, gradient) = try valueAndGradient(at: weights) { (w) throws(AccrueError) in
                var pass = PlainPass(w)
                return try network.apply(try inputs.rows(row..<row + 1), &pass).crossEntropy(try targets.rows(row..<row + 1), .sum)
            }
            expected = try expected.zip(gradient) { (sum, g) throws(AccrueError) in try sum + (try g[0].squared()) }
        }
        for (name, tensor) in expected.tensors {
            for (a, b) in zip(try tensor.doubles(), try squares.tensor(name).doubles()) { #expect(abs(a - b) <= 1e-5 * max(1, abs(a)), "\(name)") }
        }
    }

    @Test("the Laplace precision of logistic regression is the prior's plus Σ p(1 − p) x², within the spread of its drawn labels")
    func logistic() throws {
        EngineFingerprint.beginThread()
        let n = 2_000
        let schema = Scenario.classes(2, [2])
        let rows = try Scenario.labelled(3, n, classes: 2, shape: [2], spread: 1)
        let settings: JSONValue = [
            "model": ["kind": "linear", "bias": false], "likelihood": ["kind": "bernoulli"], "prior": ["precision": 2], "epochs": 3, "batch": 100, "fisherRows": 2000,
        ]
        let pipeline = PipelineDeclaration(name: "logistic", method: "IncrementalBayes", seed: 1, schema: schema, settings: settings, round: .init(chunks: 1), shards: 2)
        let method = try MethodCatalog.standard.make(pipeline)
        let last = try LocalRun(pipeline: pipeline, method: method, rows: rows, chunks: [0..<n]).run { (_) throws(AccrueError) in }
        let state = try Safetensors.decode(last.state)
        let mean = try #require(state.tensors["mean.dense.weight"]).doubles(), precision = try #require(state.tensors["precision.dense.weight"]).doubles()
        let x = try #require(rows.tensors["inputs"]).doubles()
        for column in 0..<2 {
            var sum = 2.0, variance = 0.0
            for row in 0..<n {
                let p = 1 / (1 + exp(-(mean[0] * x[2 * row] + mean[1] * x[2 * row + 1]))), square = x[2 * row + column] * x[2 * row + column]
                sum += p * (1 - p) * square
                // A drawn label gives (ŷ − p)² x², with mean p(1 − p) x² and this variance.
                variance += p * (1 - p) * (1 - 2 * p) * (1 - 2 * p) * square * square
            }
            #expect(abs(precision[column] - sum) < 5 * variance.squareRoot() + 1e-3)
        }
    }

    @Test("a target's transform changes what is learned from, and answers stay in the target's own units", arguments: ["full", "laplace"])
    func targetTransform(_ kind: String) throws {
        EngineFingerprint.beginThread()
        var schema = Scenario.regression
        schema.tensors[1].transform = .init(scale: 0.1, mean: [30], standardDeviation: [2])
        let plain = try Scenario.regressionRows(1, 300), held = try Scenario.regressionRows(2, 100)
        func moved(_ rows: Rows, schema: Schema) throws -> Rows {
            var tensors = rows.tensors
            // z = (0.1 y − 30) / 2 is the plain target.
            let y = try #require(tensors["targets"]).doubles().map { Float(($0 * 2 + 30) / 0.1) }
            tensors["targets"] = TensorBytes(y, shape: [rows.count])
            return try Rows(tensors, schema: schema, while: "testing")
        }
        let full: JSONValue = [
            "model": ["kind": "linear"], "likelihood": ["kind": "gaussian", "noisePrecision": 4], "inference": "variational", "family": "full",
        ]
        let settings = kind == "full" ? full : ["model": ["kind": "mlp", "hidden": [16]], "epochs": 20, "batch": 20, "learningRate": 0.01]
        func figures(_ schema: Schema, _ rows: Rows, _ held: Rows) throws -> [String: Double] {
            let pipeline = PipelineDeclaration(name: "scaled", method: "IncrementalBayes", seed: 3, schema: schema, settings: settings, round: .init(chunks: 1))
            let method = try MethodCatalog.standard.make(pipeline)
            let last = try LocalRun(pipeline: pipeline, method: method, rows: rows, chunks: [0..<rows.count]).run { (_) throws(AccrueError) in }
            return try #require(try method.score(last.state, on: held, key: RandomKey(seed: 4))).figures
        }
        let before = try figures(Scenario.regression, plain, held), after = try figures(schema, try moved(plain, schema: schema), try moved(held, schema: schema))
        // y = 20 z + 300: errors grow twentyfold, densities fall by log 20, coverage stays. Targets are rounded to Float32.
        #expect(abs(try #require(after["rmse"]) / #require(before["rmse"]) - 20) < 0.02)
        #expect(abs(try #require(before["logPredictiveDensity"]) - #require(after["logPredictiveDensity"]) - log(20)) < 1e-3)
        #expect(after["coverage"] == before["coverage"])
    }

    @Test("a transform of class targets, or one without an inverse, is refused")
    func targetTransformRefused() throws {
        for (schema, transform) in [
            (Scenario.classes(2, [2]), TensorSchema.Transform(scale: 2)), (Scenario.regression, .init(scale: 0)), (Scenario.regression, .init(standardDeviation: [0])),
            (Scenario.regression, .init(mean: [1, 2])),
        ] {
            var schema = schema
            schema.tensors[1].transform = transform
            let error = #expect(throws: AccrueError.self) { try IncrementalBayes.make(["model": ["kind": "mlp"]], schema) }
            #expect(error?.code == .invalidInput)
        }
    }

    @Test("conv3 learns pictures of CIFAR's size, in both kinds of inference", arguments: ["laplace", "variational"])
    func cifarSize(_ inference: String) throws {
        EngineFingerprint.beginThread()
        let scenario = Scenario(
            title: "conv3", method: "IncrementalBayes",
            settings: [
                "model": ["kind": "conv3", "widths": [4, 4, 8]], "inference": .string(inference), "epochs": 10, "batch": 10, "learningRate": 0.005, "fisherRows": 20, "temperature": 0.01,
            ], schema: Scenario.classes(2, [3, 32, 32]), rows: { try Scenario.labelled($0, $1, classes: 2, shape: [3, 32, 32], spread: 0.5) })
        let states = try scenario.run(rows: 40, chunk: 40)
        let held = try scenario.rows(2, 40), key = RandomKey(seed: 9)
        let accuracy = try scenario.make().score(states[1], on: held, key: key)?.figures["accuracy"]
        #expect(try #require(accuracy) > 0.9)
    }

    @Test("one shard's merge is its fit, and full memory forgets nothing")
    func limits() throws {
        EngineFingerprint.beginThread()
        let rows = try Scenario.blobs(1, 60), round = Round(
            index: 2, sweep: 0, sweeps: 1, shards: 1, shardRows: 60, roundRows: 60, rowsBefore: 60, sweepKey: RandomKey(seed: 1))
        func method(keep: Double) throws -> OnlineLaplace {
            let settings = try IncrementalBayes.Settings(
                ["model": ["kind": "mlp", "hidden": [8]], "epochs": 2, "batch": 20, "fisherRows": 60, "keep": .number(keep)], schema: Scenario.classes(3, [2]))
            let network = try settings.model.network(inputShape: [2], outputs: 3)
            let design = try Design(schema: Scenario.classes(3, [2]), network: network, likelihood: settings.likelihood)
            return try OnlineLaplace(model: IncrementalModel(settings: settings, schema: Scenario.classes(3, [2]), network: network, design: design))
        }
        let key = RandomKey(seed: 2), laplace = try method(keep: 1)
        var state = try laplace.initialState(key: key)
        state.precision = try state.precision.map { (p) throws(AccrueError) in try p * 3 }
        let work = try laplace.begin(state, round: round, key: key)
        let delta = try laplace.fit(work, to: [rows], round: round, key: key).delta
        let merged = try laplace.merge([Weighted(delta, rows: 60)], into: work, round: round, key: key)
        for (name, tensor) in merged.training.weights.tensors { #expect(try tensor.bytes() == delta.training.weights.tensor(name).bytes()) }
        // Without rows of information the precision is the last one under κ = 1, and moves halfway to the first prior's under κ = ½.
        let kept = try laplace.finish(merged, round: round, moments: [], scores: nil, key: key).precision
        let half = try method(keep: 0.5).finish(merged, round: round, moments: [], scores: nil, key: key).precision
        for (name, tensor) in state.precision.tensors {
            let first = try tensor.doubles(), same = try kept.tensor(name).doubles(), mixed = try half.tensor(name).doubles()
            for index in first.indices {
                #expect(same[index] == first[index])
                #expect(abs(mixed[index] - first[index] * 2 / 3) < 1e-5 * first[index])
            }
        }
    }

    @Test("data count tenfold by default where networks are drawn, and once where a posterior is what the mathematics says")
    func temperature() throws {
        let schema = Scenario.classes(3, [2])
        func temperature(_ settings: [String: JSONValue]) throws -> Double {
            try IncrementalBayes.Settings(.object(settings.merging(["model": ["kind": "mlp"]]) { own, _ in own }), schema: schema).temperature
        }
        #expect(try temperature([:]) == 0.1 && temperature(["inference": "naturalGradient"]) == 0.1 && temperature(["family": "kronecker"]) == 0.1)
        #expect(try temperature(["model": ["kind": "linear"]]) == 1 && temperature(["inference": "variational"]) == 1 && temperature(["predictive": "linearised"]) == 1)
        #expect(try temperature(["temperature": 0.7]) == 0.7)
    }

    @Test("by default a round is passed over five times, or as often as 200 steps and its sweeps need", arguments: [
        (6_000, 1, 1, 5), (1_500, 1, 1, 19), (100, 1, 1, 200), (3, 2, 1, 200), (60_000, 1, 8, 8), (128, 1, 300, 300),
    ])
    func epochs(rows: Int, shards: Int, sweeps: Int, epochs: Int) throws {
        let settings = try IncrementalBayes.Settings(["model": ["kind": "mlp"]], schema: Scenario.classes(3, [2]))
        let round = Round(index: 1, sweep: 0, sweeps: sweeps, shards: shards, shardRows: rows / shards, roundRows: rows, rowsBefore: 0, sweepKey: RandomKey(seed: 1))
        #expect(try TrainingPlan(epochs: settings.epochs, batch: settings.batch, round: round).epochs == epochs)
        #expect(try IncrementalBayes.Settings(["model": ["kind": "mlp"], "epochs": 3], schema: Scenario.classes(3, [2])).epochs == 3)
    }

    @Test("a full family without a closed form under variational inference, batch norms, and more sweeps than epochs are refused")
    func refused() throws {
        let schema = Scenario.classes(3, [2])
        func make(_ settings: JSONValue) throws { _ = try IncrementalBayes.make(settings, schema) }
        for settings: JSONValue in [
            ["model": ["kind": "mlp"], "family": "full", "inference": "variational"], ["model": ["kind": "mlp", "batchNorm": true]], ["model": ["kind": "lenet5"]], ["model": ["kind": "mpl"]],
            ["model": ["kind": "mlp"], "inference": "variational", "fisherScale": 2], ["model": ["kind": "mlp"], "fisherScale": 0],
        ] {
            let error = #expect(throws: AccrueError.self) { try make(settings) }
            #expect(error?.code == .invalidInput)
        }
        var scenario = Scenario.networks[0]
        scenario.settings = ["model": ["kind": "mlp"], "epochs": 2]
        let error = #expect(throws: AccrueError.self) { try scenario.run(sweeps: 3) }
        #expect(error?.code == .invalidInput)
    }
}
