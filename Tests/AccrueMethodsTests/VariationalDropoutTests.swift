import AccrueBayes
import AccrueCore
import AccrueTensor
import Foundation
import Testing

@testable import AccrueMethods

@Suite struct VariationalDropoutTests {
    init() { EngineFingerprint.beginThread() }

    private static let noisePrecision = 4.0

    /// Linear regression with orthogonal columns, in every 128 rows anew: `features` features, of which every tenth has a weight.
    private static func regression(features: Int = 100, rows count: Int = 512) throws -> (rows: Rows, best: [Double], variance: Double, schema: Schema) {
        // Walsh functions are orthogonal: entry ±1, columns of squared length `count`.
        let x = (0..<count).flatMap { row in (1...features).map { (row % 128 & $0).nonzeroBitCount % 2 == 0 ? Float(1) : -1 } }
        let key = RandomKey(seed: 17), noise = try key.folding("noise").normal([count]).doubles()
        let weights = try key.folding("weights").normal([features]).doubles().enumerated().map { $0 % 10 == 0 ? ($1 < 0 ? -0.3 : 0.3) + 0.1 * $1 : 0 }
        let y = (0..<count).map { row in (0..<features).reduce(noise[row] / noisePrecision.squareRoot()) { $0 + weights[$1] * Double(x[row * features + $1]) } }
        let best = (0..<features).map { column in (0..<count).reduce(0.0) { $0 + Double(x[$1 * features + column]) * Double(Float(y[$1])) } / Double(count) }
        let schema = Schema([TensorSchema("inputs", role: .input, dtype: .f32, shape: [features]), TensorSchema("targets", role: .target, dtype: .f32, shape: [])])
        let rows = try Rows(["inputs": TensorBytes(x, shape: [count, features]), "targets": TensorBytes(y.map(Float.init), shape: [count])], schema: schema, while: "testing")
        return (rows, best, 1 / (noisePrecision * Double(count)), schema)
    }

    private static func run(_ settings: [String: JSONValue], _ schema: Schema, _ rows: Rows, chunk: Int, shards: Int = 1, sweeps: Int = 1) throws -> (VariationalDropout, VariationalDropout.State) {
        let value: JSONValue = .object(settings)
        let pipeline = PipelineDeclaration(
            name: "vd", method: VariationalDropout.name, seed: 2, schema: schema, settings: value, round: .init(chunks: 1), shards: shards, sweeps: sweeps)
        let chunks = stride(from: 0, to: rows.count, by: chunk).map { $0..<min(rows.count, $0 + chunk) }
        let last = try LocalRun(pipeline: pipeline, method: try MethodCatalog.standard.make(pipeline), rows: rows, chunks: chunks).run { (_) throws(AccrueError) in }
        return (try VariationalDropout(settings: try .init(value, schema: schema), schema: schema), try VariationalDropout.State(bytes: last.state))
    }

    private static let linear: [String: JSONValue] = [
        "model": ["kind": "linear", "bias": false], "likelihood": ["kind": "gaussian", "noisePrecision": 4], "epochs": 4, "batch": 32, "curvatureRows": 1_000,
    ]

    @Test("of an orthonormal regression exactly the features that the closed form keeps are kept, in parts and shards too", arguments: [(512, 1, 1), (256, 1, 1), (512, 3, 1), (128, 2, 2)])
    func orthonormal(chunk: Int, shards: Int, sweeps: Int) throws {
        let (rows, best, e, schema) = try Self.regression()
        let (method, state) = try Self.run(Self.linear, schema, rows, chunk: chunk, shards: shards, sweeps: sweeps)
        let logAlpha = try LogAlpha.of(method.network, mean: state.mean, logScale: state.logScale).tensor("dense.weight").doubles()
        let mean = try state.mean.tensor("dense.weight").doubles(), lambda = try state.sites.precision.tensor("dense.weight").doubles()
        var kept = 0
        for (index, y) in best.enumerated() {
            #expect((logAlpha[index] >= 3) == (y * y < e * (1 + exp(-3))), "feature \(index)")
            kept += logAlpha[index] < 3 ? 1 : 0
            #expect(abs(lambda[index] - 1 / e) < 1e-3 / e)
            #expect(abs(mean[index] - max(0, 1 - e / (y * y)) * y) < 1e-4, "feature \(index)")
        }
        #expect(kept >= 10 && kept < 60)
    }

    @Test("sites after parts are those of all rows at once where the likelihood is Gaussian")
    func sites() throws {
        let (rows, best, e, schema) = try Self.regression()
        for curvature in ["gaussNewton", "noisy"] {
            var settings = Self.linear
            settings["curvature"] = .string(curvature)
            if curvature == "noisy" { (settings["curvatureRows"], settings["initialScale"]) = (nil, 0.1) }
            let (_, state) = try Self.run(settings, schema, rows, chunk: curvature == "noisy" ? 512 : 128)
            let lambda = try state.sites.precision.tensor("dense.weight").doubles(), eta = try state.sites.precisionMean.tensor("dense.weight").doubles()
            if curvature == "gaussNewton" {
                for (index, y) in best.enumerated() { #expect(abs(lambda[index] - 1 / e) < 1e-3 / e && abs(eta[index] - y / e) < 2e-3 / e) }
            } else {
                // With squared inputs of 1 all features have the same estimate. A row's standard deviation is about 1.8 of what it adds, so that of the sum over
                // 512 rows is 0.08 of the sum: within five of them.
                for value in lambda { #expect(abs(value * e - 1) < 0.4) }
            }
        }
    }

    @Test("of shards' fits of one step the mean first moment is the whole batch's: the penalty counts once, whatever the shards")
    func shardFits() throws {
        let scenario = try #require(Scenario.all.first { $0.title == "VariationalDropout, mlp, ard" }), schema = scenario.schema, rows = try scenario.rows(1, 40)
        let method = try VariationalDropout(settings: try .init(["model": ["kind": "mlp", "hidden": [16]], "epochs": 1, "batch": 40], schema: schema), schema: schema)
        let key = RandomKey(seed: 1)
        func round(_ shard: Int, of shards: Int) -> Round {
            Round(index: 2, sweep: 0, sweeps: 1, shard: shard, shards: shards, shardRows: 40 / shards, roundRows: 40, rowsBefore: 40, sweepKey: key)
        }
        var work = try method.begin(try method.initialState(key: key), round: round(0, of: 1), key: key)
        // After the warm-up, and with the noise of each row fixed: none, by a width that is nothing.
        work.rows = 40
        work.current.logScale = try work.current.logScale.map { (scale) throws(AccrueError) in try .full(scale.shape, -12) }
        func moments(of shards: Int) throws -> NamedTensors {
            let parts = try (0..<shards).map { shard in
                try method.fit(work, to: [rows.rows(shard * 40 / shards..<(shard + 1) * 40 / shards)], round: round(shard, of: shards), key: key).delta.first.mean
            }
            return try parts.weightedSum([Double](repeating: 1 / Double(shards), count: shards))
        }
        let whole = try moments(of: 1)
        for shards in [2, 4] {
            let mean = try moments(of: shards)
            for (name, tensor) in whole.tensors { #expect(try (tensor - mean.tensor(name)).absolute().largest().item() < 1e-4, "\(name), \(shards) shards") }
        }
        // Counted four times, a weight's penalty 1/μ over 40 rows would move its moment (a tenth of the gradient) by far more than that.
        let weights = try work.current.mean.tensor("dense1.weight").doubles()
        #expect(weights.allSatisfy { 3 * 0.1 / (40 * abs($0)) > 1e-3 })
    }

    @Test("gradients of shards' batches average to the whole batch's")
    func shards() throws {
        let scenario = try #require(Scenario.all.first { $0.title == "VariationalDropout, mlp, ard" })
        let method = try VariationalDropout(settings: try .init(scenario.settings, schema: scenario.schema), schema: scenario.schema)
        let state = try method.initialState(key: RandomKey(seed: 1)), rows = try method.design.rows([try scenario.rows(1, 40)])
        // With the noise of each row fixed: here none, by a width that is nothing.
        let q = FactorisedGaussian(mean: state.mean, logScale: try state.logScale.map { (scale) throws(AccrueError) in try .full(scale.shape, -12) })
        func gradient(_ range: Range<Int>) throws -> NamedTensors {
            try method.network.noisyGradient(at: q, try rows.batch(range), likelihood: method.settings.likelihood, logScaleIn: -12.0 ... 4, key: RandomKey(seed: 3)).gradient.mean
        }
        let whole = try gradient(0..<40), parts = [try gradient(0..<10), try gradient(10..<20), try gradient(20..<30), try gradient(30..<40)]
        let mean = try parts.weightedSum([0.25, 0.25, 0.25, 0.25])
        for (name, tensor) in whole.tensors { #expect(try (tensor - mean.tensor(name)).absolute().largest().item() < 1e-4, "\(name)") }
    }

    @Test("noise at the outputs has the law of noise at the weights: mean xμ and variance x²σ², within five standard errors")
    func law() throws {
        let count = 100_000, key = RandomKey(seed: 13)
        let mu = try key.folding("mu").normal([1, 7]), sigma = try key.folding("sigma").normal([1, 7]).absolute() + 0.1, x = try key.folding("x").normal([1, 7])
        let mean = try (x * mu).sum().item(), variance = try (x.squared() * sigma.squared()).sum().item()
        let layer = Layer.Affine("dense", .dense, inputs: 7, outputs: 1, hasBias: false)
        let pass = LocalReparameterisationPass(mean: NamedTensors([("dense.weight", mu)]), variance: NamedTensors([("dense.weight", try sigma.squared())]), key: key)
        let outputs = try pass.affine(layer, try x.expanded([count, 7])).doubles()
        let drawn = try (try key.folding("w").normal([count, 7]) * sigma + mu).matmul(try x.transposed()).doubles()
        for values in [outputs, drawn] {
            let m = values.reduce(0, +) / Double(count), v = values.reduce(0) { $0 + ($1 - m) * ($1 - m) } / Double(count)
            #expect(abs(m - mean) < 5 * (variance / Double(count)).squareRoot())
            #expect(abs(v / variance - 1) < 5 * (2 / Double(count)).squareRoot())
        }
    }

    private static let mlp: [String: JSONValue] = ["model": ["kind": "mlp", "hidden": [16]], "epochs": 30, "batch": 20, "learningRate": 0.01]

    /// Weights a kept weight, and accuracy on rows that were not learned.
    private static func learned(_ settings: [String: JSONValue]) throws -> (compression: Double, accuracy: Double, report: SparsityReport) {
        let scenario = try #require(Scenario.all.first { $0.title == "VariationalDropout, mlp, ard" })
        let (method, state) = try run(settings, scenario.schema, try scenario.rows(1, 240), chunk: 240)
        let report = try method.sparsity(state)
        let score = try #require(try method.score(state, on: try scenario.rows(2, 300), key: RandomKey(seed: 1)))
        return (report.compression, try #require(score.figures["accuracy"]), report)
    }

    @Test("networks lose weights and keep their accuracy, most under a hierarchical prior; shared priors switch whole neurons off")
    func sparsity() throws {
        let plain = try Self.learned(Self.mlp)
        #expect(plain.compression > 1.5 && plain.accuracy > 0.9)
        let hierarchical = try Self.learned(Self.mlp.merging(["penalty": "hierarchical", "gamma": ["shape": 1, "rate": 1e-6]]) { $1 })
        #expect(hierarchical.compression > plain.compression && hierarchical.accuracy > 0.9)
        let grouped = try Self.learned(Self.mlp.merging(["group": "output"]) { $1 })
        #expect(grouped.accuracy > 0.9 && grouped.report.layers[0].outputsKept < 16)
        // A neuron of the first layer goes with all of its weights.
        #expect(grouped.report.layers[0].kept >= 2 * grouped.report.layers[0].outputsKept - 2)
    }

    @Test("an export predicts what the posterior does, in both forms; another threshold keeps other weights")
    func export() throws {
        let scenario = try #require(Scenario.all.first { $0.title == "VariationalDropout, mlp, ard" })
        let (method, state) = try Self.run(Self.mlp, scenario.schema, try scenario.rows(1, 240), chunk: 240)
        let loaded = try method.load(state), rows = try scenario.rows(2, 20), key = RandomKey(seed: 1)
        let compact = try loaded.answer(QueryBytes(verb: "export", header: [:]), key: key)
        let w1 = try #require(compact.tensors["dense1.weight"]), b1 = try #require(compact.tensors["dense1.bias"]).doubles()
        let w2 = try #require(compact.tensors["dense2.weight"]), b2 = try #require(compact.tensors["dense2.bias"]).doubles()
        let inputs = try #require(compact.tensors["inputs"]).doubles().map { Int($0) }, x = try #require(rows.tensors["inputs"]).doubles()
        let answer = try loaded.answer(QueryBytes(verb: "predict", header: [:], tensors: rows.tensors), key: key)
        #expect(answer.header["draws"] == 1)
        let expected = try #require(answer.tensors["probabilities"]).doubles()
        let (first, second) = (w1.doubles(), w2.doubles()), hidden = w1.shape[0]
        for row in 0..<rows.count {
            let h = (0..<hidden).map { unit in max(0, inputs.indices.reduce(b1[unit]) { $0 + first[unit * inputs.count + $1] * x[row * 2 + inputs[$1]] }) }
            let logits = (0..<3).map { output in h.indices.reduce(b2[output]) { $0 + second[output * hidden + $1] * h[$1] } }
            let sum = logits.reduce(0) { $0 + exp($1) }
            for output in 0..<3 { #expect(abs(exp(logits[output]) / sum - expected[row * 3 + output]) < 1e-5) }
        }
        let csr = try loaded.answer(QueryBytes(verb: "export", header: ["form": "csr"]), key: key)
        #expect(csr.tensors["dense1.values"]?.elementCount == (try loaded.answer(QueryBytes(verb: "sparsity", header: [:]), key: key)).header["layers"]?.array?.first?["kept"]?.int)
        // Through the rows of the matrices without their zeros.
        func times(_ layer: String, _ input: [Double]) throws -> [Double] {
            let values = try #require(csr.tensors["\(layer).values"]).doubles(), columns = try #require(csr.tensors["\(layer).columns"]).doubles().map { Int($0) }
            let starts = try #require(csr.tensors["\(layer).rows"]).doubles().map { Int($0) }, bias = try #require(csr.tensors["\(layer).bias"]).doubles()
            return bias.indices.map { row in (starts[row]..<starts[row + 1]).reduce(bias[row]) { $0 + values[$1] * input[columns[$1]] } }
        }
        for row in 0..<rows.count {
            let logits = try times("dense2", try times("dense1", Array(x[2 * row..<2 * row + 2])).map { max(0, $0) }), sum = logits.reduce(0) { $0 + exp($1) }
            for output in 0..<3 { #expect(abs(exp(logits[output]) / sum - expected[row * 3 + output]) < 1e-6) }
        }
        func kept(_ threshold: JSONValue) throws -> Int? { try loaded.answer(QueryBytes(verb: "sparsity", header: ["threshold": threshold]), key: key).header["kept"]?.int }
        let all = try #require(try kept(100)), usual = try #require(try kept(3)), none = try #require(try kept(-100))
        #expect(all == 80 && none == 0 && usual > 0 && usual < all)
        for (verb, header) in [("sparsity", ["treshold": 3] as JSONValue), ("sparsity", ["threshold": "x"]), ("export", ["form": "cSr"])] {
            let error = #expect(throws: AccrueError.self) { try loaded.answer(QueryBytes(verb: verb, header: header), key: key) }
            #expect(error?.code == .invalidInput)
        }
    }

    @Test("draws come from the weights that are kept, and are asked for")
    func draws() throws {
        let scenario = try #require(Scenario.all.first { $0.title == "VariationalDropout, mlp, ard" })
        let (method, state) = try Self.run(Self.mlp, scenario.schema, try scenario.rows(1, 240), chunk: 240)
        let loaded = try method.load(state), rows = try scenario.rows(2, 20)
        func epistemic(_ header: JSONValue) throws -> Double {
            try #require(try loaded.answer(QueryBytes(verb: "predict", header: header, tensors: rows.tensors), key: RandomKey(seed: 1)).tensors["epistemic"]).doubles().reduce(0, +)
        }
        #expect(try epistemic([:]) == 0)
        #expect(try epistemic(["draws": 8]) > 0)
    }

    @Test("means of another method's posterior are where learning starts")
    func adopted() throws {
        let averaging = try #require(Scenario.all.first { $0.title == "WeightAveraging, mlp" })
        let trained = try #require(try averaging.run().last), scenario = try #require(Scenario.all.first { $0.title == "VariationalDropout, mlp, ard" })
        let export = try PosteriorExport(state: trained, pipeline: "p", version: 2, method: averaging.method)
        let method = try scenario.make(), adopted = try VariationalDropout.State(bytes: try method.adopt(export.bytes, into: try method.initialState(key: RandomKey(seed: 1)), key: RandomKey(seed: 1)))
        let stored = try Safetensors.decode(trained)
        for (name, tensor) in adopted.mean.tensors { #expect(try tensor.bytes() == stored.tensors["average.\(name)"]) }
        #expect(adopted.rows == 0)
    }

    @Test("rows of all parts are kept to be learned again, uniformly, and leave a state's other bytes alone where none are asked for")
    func keptRows() throws {
        let scenario = try #require(Scenario.all.first { $0.title == "VariationalDropout, mlp, ard" }), rows = try scenario.rows(1, 240)
        let (_, plain) = try Self.run(Self.mlp.merging(["epochs": 2]) { $1 }, scenario.schema, rows, chunk: 60)
        #expect(plain.stored.metadata["capacity"] == nil && !plain.stored.tensors.keys.contains { $0.hasPrefix("reservoir") })
        let (_, kept) = try Self.run(Self.mlp.merging(["epochs": 2, "reservoir": ["rows": 80]]) { $1 }, scenario.schema, rows, chunk: 60, shards: 2)
        let again = try VariationalDropout.State(bytes: kept.bytes).reservoir
        #expect(again.count == 80 && again.capacity == 80 && again.tensors == kept.reservoir.tensors)
        let inputs = try #require(rows.tensors["inputs"]).doubles(), found = try #require(again.tensors["inputs"]).doubles()
        func row(_ values: [Double], _ index: Int) -> [Double] { Array(values[2 * index..<2 * index + 2]) }
        let all = (0..<240).map { row(inputs, $0) }
        let places = (0..<80).compactMap { all.firstIndex(of: row(found, $0)) }
        // Of each part 20 are expected, with a deviation of 3.2.
        #expect(Set(places).count == 80)
        for part in 0..<4 { #expect(abs(places.count { $0 / 60 == part } - 20) < 13) }
        // A method that may keep fewer takes as many of them.
        for rows in [0, 25] {
            let method = try VariationalDropout(settings: try .init(.object(Self.mlp.merging(["reservoir": ["rows": .integer(rows)]]) { $1 }), schema: scenario.schema), schema: scenario.schema)
            let adopted = try method.adopt(kept.stored, into: try method.initialState(key: RandomKey(seed: 1)), key: RandomKey(seed: 1))
            #expect(adopted.reservoir.count == rows && adopted.reservoir.capacity == rows && adopted.reservoir.priorities == Array(kept.reservoir.priorities.prefix(rows)))
        }
    }

    @Test("a layer without weights is told of")
    func remarks() throws {
        let scenario = try #require(Scenario.all.first { $0.title == "VariationalDropout, mlp, ard" })
        let method = try VariationalDropout(settings: try .init(scenario.settings, schema: scenario.schema), schema: scenario.schema)
        var state = try method.initialState(key: RandomKey(seed: 1))
        #expect(try method.remarks(on: state).isEmpty)
        state.rows = 10
        state.logScale = NamedTensors(try state.logScale.tensors.map { ($0.name, $0.name.hasPrefix("dense2") ? try .full($0.tensor.shape, 3) : $0.tensor) })
        #expect(try method.remarks(on: state).map(\.kind) == [.collapse])
    }

    @Test("settings that make no sense are refused, naming what to do")
    func refused() throws {
        let schema = Scenario.classes(3, [2])
        func problem(_ more: [String: JSONValue]) -> String {
            let settings: [String: JSONValue] = ["model": ["kind": "mlp"]]
            do {
                _ = try VariationalDropout.Settings(.object(settings.merging(more) { $1 }), schema: schema)
                return ""
            } catch { return "\(error)" }
        }
        #expect(problem([:]) == "")
        #expect(problem(["penalty": "art"]).contains("ard"))
        #expect(problem(["gamma": ["shape": 1]]).contains("hierarchical"))
        #expect(problem(["penalty": "hierarchical", "gamma": ["shape": 0.5, "estimator": "modeOfPrecision"]]).contains("above 0.5"))
        #expect(problem(["penalty": "hierarchical", "gamma": ["rate": 0]]).contains("rate"))
        #expect(problem(["penalty": "variationalDropout", "group": "output"]).contains("group"))
        #expect(problem(["warmUp": ["from": 0.6, "to": 0.5]]).contains("before"))
        #expect(problem(["closedForm": true]).contains("linear"))
        #expect(problem(["curvature": "noisy", "curvatureRows": 10]).contains("gaussNewton"))
        #expect(problem(["model": ["kind": "mlp", "batchNorm": true]]).contains("batchNorm"))
        #expect(problem(["threshold": 50]).contains("threshold"))
        #expect(problem(["reservoir": ["row": 1]]).contains("rows") && problem(["reservoir": ["share": 2]]).contains("settings.reservoir.share"))
        #expect(problem(["model": ["kind": "linear"], "likelihood": ["kind": "gaussian", "noisePrecision": 4], "closedForm": true, "reservoir": ["rows": 9]]).contains("closedForm"))
    }
}
