import AccrueCore
import AccrueTensor
import Foundation
import Testing

@testable import AccrueBayes
@testable import AccrueMethods

@Suite struct StochasticBatchNormTests {
    init() { EngineFingerprint.beginThread() }

    private static let key = RandomKey(seed: 8)
    private static let schema = Scenario.classes(3, [2])

    private static func settings(_ more: [String: JSONValue] = [:]) -> JSONValue {
        .object(["model": ["kind": "mlp", "hidden": [16], "batchNorm": true], "epochs": 8, "batch": 20, "learningRate": 0.01].merging(more) { $1 })
    }

    private static func pipeline(_ settings: JSONValue, shards: Int = 1, sweeps: Int = 1) -> PipelineDeclaration {
        PipelineDeclaration(name: "sbn", method: "StochasticBatchNorm", seed: 1, schema: schema, settings: settings, round: .init(chunks: 1), shards: shards, sweeps: sweeps)
    }

    /// States of all versions.
    private static func run(_ settings: JSONValue, rows: Int = 240, chunk: Int = 120, shards: Int = 1, sweeps: Int = 1, start: Data? = nil) throws -> [Data] {
        let pipeline = pipeline(settings, shards: shards, sweeps: sweeps), data = try Scenario.blobs(1, rows)
        var states: [Data] = []
        let chunks = stride(from: 0, to: rows, by: chunk).map { $0..<$0 + chunk }
        _ = try LocalRun(pipeline: pipeline, method: try MethodCatalog.standard.make(pipeline), rows: data, chunks: chunks, start: start)
            .run { (version) throws(AccrueError) in states.append(version.state) }
        return states
    }

    private static func loaded(_ settings: JSONValue, _ state: Data) throws -> any LoadedState { try MethodCatalog.standard.make(pipeline(settings)).load(state) }

    private static func predict(_ state: any LoadedState, _ header: JSONValue, seed: UInt64 = 2, targets: Bool = false, count: Int = 60) throws -> QueryBytes {
        let rows = try Scenario.blobs(seed, count)
        return try state.answer(
            QueryBytes(verb: "predict", header: header, tensors: targets ? rows.tensors : ["inputs": try #require(rows.tensors["inputs"])]), key: key)
    }

    /// The weights of a state as a bare network, with or without its statistics.
    private static func network(_ state: Data, statistics: Bool) throws -> Data {
        let stored = try Safetensors.decode(state)
        var tensors: [String: TensorBytes] = [:]
        for (name, tensor) in stored.tensors {
            if name.hasPrefix("weights.") { tensors[String(name.dropFirst(8))] = tensor }
            if statistics, name.hasPrefix("statistics.") { tensors[String(name.dropFirst(11))] = tensor }
        }
        return Safetensors(tensors: tensors).encode()
    }

    @Test("with one batch norm and large batches, drawn statistics predict as real batches do; with small ones they are further off")
    func exact() throws {
        // p(y | x) for 1-D data: companions N(0, 1) of a row x, through dense, batch norm, ReLU, dense, softmax.
        let network = try ModelDeclaration(SettingsReader(["model": ["kind": "mlp", "hidden": [8], "batchNorm": true]], known: ["model"], while: "testing"))
            .network(inputShape: [1], outputs: 3)
        let weights = try network.initialWeights(key: Self.key).map { (w) throws(AccrueError) in try w * 1.5 }
        let points: [Float] = [-2, -0.5, 0.3, 1.7]
        func distances(_ size: Int, _ count: Int) throws -> [Double] {
            var moments = BatchMoments(rows: size)
            var real = [[Double]](repeating: [0, 0, 0], count: points.count), drawn = real
            for batch in 0..<count {
                let companions = try Self.key.folding(size).folding(batch).normal([size, 1])
                var flow = BatchFlowPass(weights)
                _ = try network.apply(companions, &flow)
                moments.add(flow.flows)
                // The row takes the first companion's place.
                let point = batch % points.count
                let together = try Tensor.concatenated([try Tensor([points[point]], shape: [1, 1]), try companions.rows(1..<size)])
                var pass = PlainPass(weights)
                let p = try network.apply(together, &pass).softmax(1).rows(0..<1).doubles()
                for c in 0..<3 { real[point][c] += p[c] / Double(count / points.count) }
            }
            let r = try #require(moments.distribution("dense1.norm"))
            let inputs = try Tensor(points, shape: [points.count, 1])
            for draw in 0..<count {
                var pass = PlainPass(weights, statistics: ["dense1.norm": try r.draw(Self.key.folding("draw").folding(draw))])
                let p = try network.apply(inputs, &pass).softmax(1).doubles()
                for point in points.indices { for c in 0..<3 { drawn[point][c] += p[3 * point + c] / Double(count) } }
            }
            return zip(real, drawn).map { a, b in zip(a, b).reduce(0) { $0 + abs($1.0 - $1.1) } / 2 }
        }
        let large = try distances(256, 20_000), small = try distances(4, 4_000)
        #expect(large.allSatisfy { $0 < 0.02 }, "\(large)")
        #expect((small.max() ?? 0) > (large.max() ?? 1), "\(small), \(large)")
    }

    @Test("moments of a frozen network add up over parts, exactly, as those of one part")
    func frozen() throws {
        let trained = try #require(try Self.run(Self.settings()).last)
        let frozen = Self.settings(["epochs": 0])
        let network = try Self.network(trained, statistics: false)
        let states = try Self.run(frozen, rows: 240, chunk: 60, start: network)
        let first = try Safetensors.decode(states[1]), last = try Safetensors.decode(try #require(states.last))
        for (name, tensor) in first.tensors where name.hasPrefix("weights.") { #expect(last.tensors[name] == tensor, "\(name)") }
        #expect(first.tensors["moments.dense1.norm"] == nil)
        let moments = try BatchMoments(last, "moments", rows: 20)
        #expect(moments.batches == 12)
        // What each part's batches add, one after the other.
        let method = try StochasticBatchNorm(settings: try .init(frozen, schema: Self.schema), schema: Self.schema)
        var sum = BatchMoments(rows: 20)
        for part in 0..<4 {
            let state = try StochasticBatchNorm.State(bytes: states[1 + part]), version = 2 + part, keys = RoundKeys(seed: 1, version: version)
            let round = Round(index: version, sweep: 0, sweeps: 1, shards: 1, shardRows: 60, roundRows: 60, rowsBefore: 60 * part, sweepKey: keys.sweep(0))
            let work = try method.begin(state, round: round, key: keys.begin), rows = try Scenario.blobs(1, 240).rows(60 * part..<60 * (part + 1))
            let collected = try #require(try method.statistics(of: work, on: [rows], round: round, key: keys.statistics(shard: 0)))
            #expect(collected.moments.batches == 3)
            sum = try sum.merged(with: collected.moments)
        }
        #expect(sum == moments)
        // As the first layer's inputs are fixed, all rows' mean is known: W·mean(x) + b.
        let r = try #require(moments.distribution("dense1.norm"))
        let weight = try #require(last.tensors["weights.dense1.weight"]).doubles(), bias = try #require(last.tensors["weights.dense1.bias"]).doubles()
        let x = try #require(try Scenario.blobs(1, 240).tensors["inputs"]).doubles()
        for unit in 0..<16 {
            let flow = (0..<240).map { weight[2 * unit] * x[2 * $0] + weight[2 * unit + 1] * x[2 * $0 + 1] + bias[unit] }
            let m = flow.reduce(0, +) / 240, v = flow.reduce(0) { $0 + ($1 - m) * ($1 - m) } / 240
            #expect(abs(r.mean[unit] - m) < 1e-5)
            #expect(abs(try r.pooled().variance.doubles()[unit] - v) < 1e-4 * max(1, v))
        }
    }

    @Test("a network that moves has the moments of its own weights alone, of one round's batches, whatever the shards")
    func replaced() throws {
        for shards in [1, 2, 3] {
            for state in try Self.run(Self.settings(), shards: shards).dropFirst() {
                #expect(try BatchMoments(try Safetensors.decode(state), "moments", rows: 20).batches == 6)
            }
        }
        #expect(try BatchMoments(try Safetensors.decode(try #require(try Self.run(Self.settings(["passes": 3])).last)), "moments", rows: 20).batches == 18)
    }

    @Test("sweeps share the epochs and the moments are collected once, after the last")
    func sweeps() throws {
        let states = try Self.run(Self.settings(), shards: 2, sweeps: 4)
        let answer = try Self.predict(try Self.loaded(Self.settings(), try #require(states.last)), ["draws": 8], targets: true)
        #expect(try #require(answer.header["figures"]?["accuracy"]?.double) > 0.9)
        #expect(try BatchMoments(try Safetensors.decode(try #require(states.last)), "moments", rows: 20).batches == 6)
        let error = #expect(throws: AccrueError.self) { try Self.run(Self.settings(["epochs": 2]), shards: 1, sweeps: 3) }
        #expect(error?.code == .invalidInput)
    }

    @Test("a network from outside answers deterministically until a part came, by the statistics it came with")
    func imported() throws {
        let trained = try #require(try Self.run(Self.settings()).last), settings = Self.settings(["epochs": 0])
        let method = try MethodCatalog.standard.make(Self.pipeline(settings))
        let first = try method.initialState(key: Self.key)
        let adopted = try method.adopt(try Self.network(trained, statistics: true), into: first, key: Self.key)
        let reference = try Self.predict(try Self.loaded(Self.settings(), trained), ["noise": "none"]), answer = try Self.predict(try method.load(adopted), ["draws": 4])
        #expect(answer.tensors["probabilities"] == reference.tensors["probabilities"])
        #expect(answer.header["batches"] == 0 && answer.header["draws"] == 1 && reference.header["batches"] == 6)
        // After one part it has uncertainty of its own, without a step of training.
        let after = try #require(try Self.run(settings, rows: 120, start: try Self.network(trained, statistics: true)).last)
        let drawn = try Self.predict(try Self.loaded(settings, after), ["draws": 16])
        #expect(try #require(drawn.header["meanEpistemic"]?.double) > 1e-5 && drawn.header["batches"] == 6)
    }

    @Test("an average of WeightAveraging becomes a network with moments; other posteriors, other batch sizes and negative variances are refused by name")
    func adopts() throws {
        let averaging = PipelineDeclaration(
            name: "swa", method: "WeightAveraging", seed: 1, schema: Self.schema, settings: ["model": ["kind": "mlp", "hidden": [16], "batchNorm": true], "batch": 20],
            round: .init(chunks: 1))
        let swa = try LocalRun(pipeline: averaging, method: try MethodCatalog.standard.make(averaging), rows: try Scenario.blobs(1, 120), chunks: [0..<120])
            .run { (_) throws(AccrueError) in }.state
        let method = try MethodCatalog.standard.make(Self.pipeline(Self.settings()))
        let first = try method.initialState(key: Self.key)
        let adopted = try method.adopt(swa, into: first, key: Self.key)
        let theirs = try MethodCatalog.standard.make(averaging).load(swa).answer(
            QueryBytes(verb: "predict", header: [:], tensors: ["inputs": try #require(try Scenario.blobs(2, 60).tensors["inputs"])]), key: Self.key)
        #expect(try Self.predict(try method.load(adopted), ["noise": "none"]).tensors["probabilities"] == theirs.tensors["probabilities"])

        func problem(_ bytes: Data, _ settings: JSONValue = Self.settings()) -> String {
            do throws(AccrueError) {
                let method = try MethodCatalog.standard.make(Self.pipeline(settings))
                _ = try method.load(try method.adopt(bytes, into: try method.initialState(key: Self.key), key: Self.key))
                return ""
            } catch { return error.code == .invalidInput ? error.problem : "another code" }
        }
        let own = try #require(try Self.run(Self.settings()).last)
        #expect(problem(own) == "")
        #expect(problem(own, Self.settings(["batch": 30])) == "its moments are of batches of 20 rows; settings.batch is 30")
        var wrong = try Safetensors.decode(try Self.network(own, statistics: true))
        wrong.tensors["dense1.norm.variance"] = TensorBytes([Float](repeating: -1, count: 16), shape: [16])
        #expect(problem(wrong.encode()) == "tensor 'dense1.norm.variance' has numbers below 0")
        wrong.tensors["dense1.norm.variance"] = TensorBytes([Float](repeating: 1, count: 3), shape: [3])
        #expect(problem(wrong.encode()) == "tensor 'dense1.norm.variance' has shape [3]; the model needs [16]")
        wrong = try Safetensors.decode(own)
        wrong.metadata["method"] = "IncrementalBayes"
        #expect(problem(wrong.encode()).hasPrefix("the file is a posterior of IncrementalBayes"))
    }

    @Test("the mean of draws is never worse than draws are on average (Jensen), and one draw is one network for all rows")
    func jensen() throws {
        let state = try Self.loaded(Self.settings(), try #require(try Self.run(Self.settings()).last))
        let rows = try Scenario.blobs(2, 60), labels = try #require(rows.tensors["targets"]).doubles()
        func density(_ draws: Int) throws -> [Double] {
            let p = try #require(try Self.predict(state, ["draws": .integer(draws)]).tensors["probabilities"]).doubles()
            return labels.indices.map { log(p[3 * $0 + Int(labels[$0])]) }
        }
        // Draw i of a key is the same network, however many are asked for: means of d draws give each of them.
        var previous = [Double](repeating: 0, count: 60), logs = [Double](repeating: 0, count: 60)
        for draws in 1...8 {
            let sum = try density(draws).map { exp($0) * Double(draws) }
            for row in 0..<60 { logs[row] += log(max(sum[row] - previous[row], 1e-300)) / 8 }
            previous = sum
        }
        let together = try density(8)
        for row in 0..<60 { #expect(together[row] >= logs[row] - 1e-6) }
        #expect(together.reduce(0, +) > logs.reduce(0, +))
        // A row's answer does not depend on the rows beside it.
        let all = try #require(try Self.predict(state, ["draws": 4]).tensors["probabilities"]).doubles()
        let few = try #require(try Self.predict(state, ["draws": 4], count: 3).tensors["probabilities"]).doubles()
        for (a, b) in zip(few, all) { #expect(abs(a - b) < 1e-6) }
    }

    @Test("noise says which chances draws have; without dropout there is none to ask for")
    func noise() throws {
        let dropping = Self.settings(["dropout": 0.3, "epochs": 20])
        let state = try Self.loaded(dropping, try #require(try Self.run(dropping).last))
        var epistemic: [String: Double] = [:]
        for noise in ["all", "batchNorm", "dropout", "none"] {
            let answer = try Self.predict(state, ["noise": .string(noise), "draws": 32], targets: true)
            epistemic[noise] = try #require(answer.header["meanEpistemic"]?.double)
            #expect(answer.header["noise"]?.string == noise && answer.header["draws"] == (noise == "none" ? 1 : 32))
            #expect(try #require(answer.header["figures"]?["accuracy"]?.double) > 0.85, "\(noise)")
        }
        let (all, batchNorm, dropout, none) = (epistemic["all"] ?? 0, epistemic["batchNorm"] ?? 0, epistemic["dropout"] ?? 0, epistemic["none"] ?? 1)
        #expect(none == 0 && batchNorm > 0 && dropout > 0 && all > max(batchNorm, dropout), "\(epistemic)")
        let together = state.answers(
            try ["all", "none"].map { QueryBytes(verb: "predict", header: ["noise": .string($0)], tensors: ["inputs": try #require(try Scenario.blobs(2, 4).tensors["inputs"])]) },
            key: Self.key)
        #expect(try together.map { try $0.get().header["noise"]?.string } == ["all", "none"])

        let plain = try Self.loaded(Self.settings(), try #require(try Self.run(Self.settings()).first))
        func problem(_ noise: JSONValue) -> String {
            do { _ = try Self.predict(plain, ["noise": noise]); return "" } catch { return (error as? AccrueError).map { $0.problem + $0.hint } ?? "" }
        }
        #expect(problem("dropout").contains("no dropout") && problem("some").contains("all, batchNorm, dropout, none") && problem(3).contains("3"))
    }

    @Test("a rate of 0 is no dropout, byte by byte; with dropout a row's answer does not depend on the rows beside it")
    func dropping() throws {
        let without = try Self.run(Self.settings())
        #expect(try Self.run(Self.settings(["dropout": 0])) == without)
        let settings = Self.settings(["dropout": 0.3]), states = try Self.run(settings)
        #expect(states.last != without.last && states.first == without.first)
        let state = try Self.loaded(settings, try #require(states.last))
        for noise in ["all", "dropout"] {
            let all = try #require(try Self.predict(state, ["noise": .string(noise), "draws": 4]).tensors["probabilities"]).doubles()
            let few = try #require(try Self.predict(state, ["noise": .string(noise), "draws": 4], count: 3).tensors["probabilities"]).doubles()
            for (a, b) in zip(few, all) { #expect(abs(a - b) < 1e-6, "\(noise)") }
        }
    }

    @Test("settings.drawn: convolutional leaves dense layers' statistics alone")
    func drawn() throws {
        let schema = Scenario.classes(2, [16, 16])
        func epistemic(_ drawn: String) throws -> Double {
            let pipeline = PipelineDeclaration(
                name: "sbn", method: "StochasticBatchNorm", seed: 1, schema: schema,
                settings: ["model": ["kind": "lenet5", "batchNorm": true], "epochs": 1, "batch": 20, "drawn": .string(drawn)], round: .init(chunks: 1))
            let rows = try Scenario.labelled(1, 60, classes: 2, shape: [16, 16], spread: 1)
            let method = try MethodCatalog.standard.make(pipeline)
            let last = try LocalRun(pipeline: pipeline, method: method, rows: rows, chunks: [0..<60]).run { (_) throws(AccrueError) in }
            return try #require(try method.score(last.state, on: rows, key: Self.key)?.figures["meanEpistemic"])
        }
        #expect(try epistemic("all") != epistemic("convolutional"))
    }

    @Test("shift is about 1 for rows like those learned and far more for others; moments say r channel by channel")
    func shift() throws {
        let settings = Self.settings(["passes": 4])
        let state = try Self.loaded(settings, try #require(try Self.run(settings, rows: 480, chunk: 240).last))
        func shift(_ inputs: TensorBytes) throws -> (Double, Double) {
            let answer = try state.answer(QueryBytes(verb: "shift", header: [:], tensors: ["inputs": inputs]), key: Self.key)
            let layer = try #require(answer.header["layers"]?.array?.first)
            return (try #require(layer["mean"]?.double), try #require(layer["logVariance"]?.double))
        }
        let alike = try #require(try Scenario.blobs(5, 100).tensors["inputs"])
        let (mean, variance) = try shift(alike)
        #expect(mean < 2.5 && variance < 3, "\(mean), \(variance)")
        #expect(try shift(TensorBytes(alike.doubles().map { Float($0 + 1) }, shape: alike.shape)).0 > 6)
        #expect(try shift(TensorBytes(alike.doubles().map { Float($0 * 3) }, shape: alike.shape)).1 > 6)
        let few = #expect(throws: AccrueError.self) { try shift(TensorBytes([Float](repeating: 0, count: 20), shape: [10, 2])) }
        #expect(few?.code == .invalidInput && few?.hint.contains("20") == true)
        let moments = try state.answer(QueryBytes(verb: "moments", header: [:]), key: Self.key)
        #expect(moments.tensors["dense1.norm.logDeviation"]?.shape == [16] && moments.header["batches"] == 48 && moments.header["batch"] == 20)
        let first = try Self.loaded(settings, try MethodCatalog.standard.make(Self.pipeline(settings)).initialState(key: Self.key))
        let none = #expect(throws: AccrueError.self) { try first.answer(QueryBytes(verb: "shift", header: [:], tensors: ["inputs": alike]), key: Self.key) }
        #expect(none?.code == .unavailable)
    }

    @Test("what drawing is worth is scored before rows are learned, and described")
    func gain() throws {
        let states = try Self.run(Self.settings(), rows: 360)
        for (index, state) in states.enumerated() {
            let description = try Self.loaded(Self.settings(), state).answer(QueryBytes(verb: "describe", header: [:]), key: Self.key).header
            // Version 1 was scored by version 0, which has no moments.
            guard index >= 2 else { #expect(description["scoredGain"] == nil); continue }
            let drawn = try #require(description["scoredDrawn"]?.double), fixed = try #require(description["scoredDeterministic"]?.double)
            let gain = try #require(description["scoredGain"]?.double)
            #expect(drawn.isFinite && fixed.isFinite && drawn != fixed && abs(gain - (drawn - fixed)) < 1e-12)
            #expect(description["norms"]?.array?.first?["cappedChannels"] == 0)
        }
    }

    @Test("strangers have more entropy than rows like those learned")
    func strangers() throws {
        let schema = Scenario.classes(4, [1, 8, 8])
        let pipeline = PipelineDeclaration(
            name: "sbn", method: "StochasticBatchNorm", seed: 3, schema: schema,
            settings: ["model": ["kind": "conv3", "widths": [8, 8, 8], "batchNorm": true], "epochs": 6, "batch": 32, "learningRate": 0.01], round: .init(chunks: 1))
        let method = try MethodCatalog.standard.make(pipeline), rows = try Scenario.labelled(1, 320, classes: 4, shape: [1, 8, 8], spread: 0.7)
        let last = try LocalRun(pipeline: pipeline, method: method, rows: rows, chunks: [0..<320]).run { (_) throws(AccrueError) in }
        let state = try method.load(last.state)
        func entropy(_ inputs: TensorBytes) throws -> Double {
            try #require(try state.answer(QueryBytes(verb: "predict", header: ["draws": 16], tensors: ["inputs": inputs]), key: Self.key).header["meanTotalEntropy"]?.double)
        }
        let known = try #require(try Scenario.labelled(2, 200, classes: 4, shape: [1, 8, 8], spread: 0.7).tensors["inputs"])
        let noise = try (try Self.key.folding("noise").uniform([200, 1, 8, 8])).bytes()
        let (strange, usual) = (try entropy(noise), try entropy(known))
        #expect(strange > 2 * usual, "\(strange), \(usual)")
    }

    @Test("settings that make no sense are refused, and a shard smaller than a batch with what to do")
    func refused() throws {
        func problem(_ settings: JSONValue) -> String {
            do { _ = try MethodCatalog.standard.make(Self.pipeline(settings)); return "" } catch { return error.problem }
        }
        #expect(problem(["model": ["kind": "mlp"]]).contains("settings.model.batchNorm"))
        #expect(problem(Self.settings(["batch": 1])).contains("settings.batch") && problem(Self.settings(["dropout": 1])).contains("settings.dropout"))
        #expect(problem(Self.settings(["drawn": "convolutional"])).contains("no convolutions") && problem(Self.settings(["drawn": "some"])).contains("settings.drawn"))
        #expect(problem(Self.settings(["passes": 0])).contains("settings.passes") && problem(Self.settings(["epochs": -1])).contains("settings.epochs"))
        let error = #expect(throws: AccrueError.self) { try Self.run(Self.settings(["batch": 50]), rows: 120, shards: 3) }
        #expect(error?.code == .invalidInput && error?.problem.contains("a shard has 40 rows") == true && error?.hint.contains("round.chunks") == true)
    }

    @Test("predictions with folded batch norms are those of the layers one after the other")
    func folded() throws {
        for (kind, shape) in [("mlp", [2]), ("conv3", [2, 8, 8]), ("lenet5", [1, 20, 20])] {
            let network = try ModelDeclaration(SettingsReader(["model": ["kind": .string(kind), "batchNorm": true]], known: ["model"], while: "testing"))
                .network(inputShape: shape, outputs: 3)
            var weights = try network.initialWeights(key: Self.key)
            // Some scales are negative: then the largest of a window is not the largest before it was scaled.
            try weights.visit { (name, tensor) throws(AccrueError) in
                if name.hasSuffix(".scale") || name.hasSuffix(".shift") || name.hasSuffix(".bias") { tensor = try Self.key.folding(name).normal(tensor.shape) }
            }
            var statistics: BatchStatistics = [:]
            for layer in network.batchNorms {
                statistics[layer.name] = (try Self.key.folding(layer.name).normal([layer.features]), try Self.key.folding(layer.name).folding(1).uniform([layer.features]) + 0.1)
            }
            let inputs = try Self.key.folding(kind).normal([5] + shape)
            var pass = PlainPass(weights, statistics: statistics)
            let plain = try network.apply(inputs, &pass).doubles()
            let stages = try #require(try network.stages(weights, statistics: statistics))
            let packed = try PackedNetwork.outputs([try #require(try PackedNetwork(stages, inputShape: network.inputShape))], inputs)
            for (a, b) in zip(plain, packed) { #expect(abs(a - Double(b)) < 1e-4 * max(1, abs(a)), "\(kind)") }
        }
    }
}
