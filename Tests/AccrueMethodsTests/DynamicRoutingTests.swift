import AccrueCore
import AccrueTensor
import Foundation
import Testing

@testable import AccrueBayes
@testable import AccrueMethods

@Suite struct DynamicRoutingTests {
    init() { EngineFingerprint.beginThread() }

    private static let key = RandomKey(seed: 3)
    private static let schema = Scenario.classes(3, [1, 8, 8])
    private static let rows: @Sendable (UInt64, Int) throws -> Rows = { try Scenario.labelled($0, $1, classes: 3, shape: [1, 8, 8], spread: 0.8) }

    private static func settings(_ more: [String: JSONValue] = [:]) -> JSONValue {
        .object(["model": ["channels": [4, 6], "units": [3, 2], "embedding": 4, "hidden": 6], "epochs": 6, "batch": 20, "learningRate": 0.02].merging(more) { $1 })
    }

    private static func pipeline(_ settings: JSONValue, schema: Schema = schema, shards: Int = 1, sweeps: Int = 1) -> PipelineDeclaration {
        PipelineDeclaration(name: "routes", method: "DynamicRouting", seed: 1, schema: schema, settings: settings, round: .init(chunks: 1), shards: shards, sweeps: sweeps)
    }

    private static func run(_ settings: JSONValue, rows count: Int = 240, chunk: Int = 120, shards: Int = 1, sweeps: Int = 1, start: Data? = nil) throws -> [LocalRun.Version] {
        let pipeline = pipeline(settings, shards: shards, sweeps: sweeps)
        var versions: [LocalRun.Version] = []
        let chunks = stride(from: 0, to: count, by: chunk).map { $0..<$0 + chunk }
        _ = try LocalRun(pipeline: pipeline, method: try MethodCatalog.standard.make(pipeline), rows: try rows(1, count), chunks: chunks, start: start)
            .run { (version) throws(AccrueError) in versions.append(version) }
        return versions
    }

    private static func loaded(_ settings: JSONValue, _ state: Data) throws -> any LoadedState { try MethodCatalog.standard.make(pipeline(settings)).load(state) }

    @Test("two parts, two shards and two sweeps: each version counts its rows' routes, adds its steps, and predicts better than chance, hard and soft alike")
    func incremental() throws {
        let settings = Self.settings(), versions = try Self.run(settings, rows: 480, chunk: 240, shards: 2, sweeps: 2)
        #expect(versions.map { StoredSteps.of($0.state) } == [0, 36, 72])
        let held = try Self.rows(2, 150)
        for version in versions.dropFirst() {
            let state = try DynamicRouting.State(bytes: version.state)
            for stage in 0..<2 {
                for step in 0..<(stage == 0 ? 3 : 2) { #expect(state.usage.table(stage: stage, step: step).joined().reduce(0, +) == 240) }
            }
            // Every norm's statistics are of this version's weights.
            #expect(try state.hard.tensors.allSatisfy { try $0.tensor.isFinite() } && state.hard.names == state.soft.names && !state.hard.names.isEmpty)
        }
        let last = try Self.loaded(settings, try #require(versions.last).state)
        for route in ["hard", "soft", "masked", "gumbel"] {
            let answer = try last.answer(QueryBytes(verb: "predict", header: ["route": .string(route)], tensors: held.tensors), key: Self.key)
            #expect(try #require(answer.header["figures"]?["accuracy"]?.double) > 0.8, "\(route)")
            #expect(answer.header["route"]?.string == route && answer.header["draws"] == (route == "gumbel" ? 16 : 1))
            // Without a distribution over weights only drawn routes disagree.
            #expect(try (#require(answer.header["meanEpistemic"]?.double) > 1e-9) == (route == "gumbel"), "\(route)")
        }
        let hard = try last.answer(QueryBytes(verb: "predict", header: [:], tensors: held.tensors), key: Self.key)
        let masked = try last.answer(QueryBytes(verb: "predict", header: ["route": "masked"], tensors: held.tensors), key: Self.key)
        for (a, b) in zip(try #require(hard.tensors["probabilities"]).doubles(), try #require(masked.tensors["probabilities"]).doubles()) { #expect(abs(a - b) < 1e-4) }
    }

    @Test("going on from a stored version is going on, bit for bit")
    func resumed() throws {
        let settings = Self.settings(["routes": "gumbel", "order": ["share": 0.3]]), whole = try Self.run(settings)
        let method = try MethodCatalog.standard.make(Self.pipeline(settings))
        let log = RoundFold(pipeline: Self.pipeline(settings), method: method)
        let stretch = try #require(Stretch.next(in: [
            LogEntry(position: 1, kind: .chunk(.init(identity: try Self.rows(1, 120).identity, key: nil, rows: 120, bytes: 1))),
            LogEntry(position: 2, kind: .chunk(.init(identity: try Self.rows(1, 120).identity, key: nil, rows: 120, bytes: 1))),
        ], after: 1, chunksPerRound: 1))
        let rows = try Self.rows(1, 240)
        let next = try log.next(whole[1].state, version: 2, isFirst: false, stretch: stretch, rowsBefore: 120) { (_) throws(AccrueError) in rows.rows(120..<240) }
        #expect(next.state == whole[2].state)
    }

    @Test("statistics and counts of two shards are those of one over the same batches")
    func pooledShards() throws {
        let method = try DynamicRouting(settings: try DynamicRouting.Settings(Self.settings(), schema: Self.schema), schema: Self.schema)
        let work = try method.begin(
            try DynamicRouting.State(bytes: try #require(try Self.run(Self.settings(), rows: 120).last).state), round: Self.round(rows: 40, shards: 1), key: Self.key)
        let rows = try Self.rows(7, 40)
        func collected(_ part: Range<Int>, _ shards: Int) throws -> DynamicRouting.Collected {
            try #require(try method.statistics(of: work, on: [rows.rows(part)], round: Self.round(rows: 40, shards: shards), key: Self.key))
        }
        // Whole batches of 20: the same rows are in each, so their statistics are too.
        let parts = [try collected(0..<20, 2), try collected(20..<40, 2)], round = Self.round(rows: 40, shards: 2)
        let two = try method.finish(work, round: round, moments: parts, scores: nil, key: Self.key), back = try method.finish(work, round: round, moments: parts.reversed(), scores: nil, key: Self.key)
        for (name, tensor) in two.hard.tensors { #expect(try (tensor - (try back.hard.tensor(name))).absolute().largest().item() < 1e-6) }
        var usage = parts[0].usage
        usage.add(parts[1].usage)
        #expect(two.usage == usage && two.usage == back.usage && usage.table(stage: 0, step: 0).joined().reduce(0, +) == 40)
        // Mean of the variances plus the variance of the means: the formula of pooling.
        let one = try parts.map { try BatchFlow.pooled([$0.hard], norms: method.network.norms) }
        for name in two.hard.names where name.hasSuffix(".variance") {
            let mean = name.replacing(".variance", with: ".mean")
            let v = try one.map { try $0.tensor(name).doubles() }, m = try one.map { try $0.tensor(mean).doubles() }
            for (index, found) in try two.hard.tensor(name).doubles().enumerated() {
                let average = (m[0][index] + m[1][index]) / 2
                let expected = (v[0][index] + m[0][index] * m[0][index] + v[1][index] + m[1][index] * m[1][index]) / 2 - average * average
                #expect(abs(found - expected) < 1e-4 * max(1, abs(expected)))
            }
        }
    }

    private static func round(rows: Int, shards: Int) -> Round {
        Round(index: 2, sweep: 0, sweeps: 1, shards: shards, shardRows: rows / shards, roundRows: rows, rowsBefore: 120, sweepKey: key)
    }

    @Test("route says what is chosen, how choices go with classes, and what it costs")
    func route() throws {
        let settings = Self.settings(["epochs": 12]), state = try Self.loaded(settings, try #require(try Self.run(settings, rows: 360, chunk: 360).last).state)
        let rows = try Self.rows(2, 300)
        func route(_ header: JSONValue = [:], targets: Bool = true) throws -> QueryBytes {
            try state.answer(QueryBytes(verb: "route", header: header, tensors: targets ? rows.tensors : ["inputs": try #require(rows.tensors["inputs"])]), key: Self.key)
        }
        let answer = try route(["permutations": 100])
        #expect(answer.tensors["stage1.chosen"]?.shape == [300, 3] && answer.tensors["stage2.probabilities"]?.shape == [300, 2, 2])
        #expect(answer.tensors["usage.stage1"]?.shape == [3, 3, 3] && answer.tensors["usage.stage1"]?.doubles().reduce(0, +) == 900)
        let found = try #require(answer.header["classInformation"]?.double), chance = try #require(answer.header["classInformationByChance"]?.double)
        #expect(found > 0.05 && found > chance, "\(found), by chance \(chance)")
        #expect(answer.header["permutations"] == 100 && answer.header["classInformationOfSteps"]?.array?.count == 5)
        let all = try #require(answer.header["multiplyAddsOfAll"]?.double), hard = try #require(answer.header["multiplyAdds"]?.double)
        // Units of 4 channels at 8×8 and of 6 at 4×4, of which two more are computed at three steps, and one more at two.
        #expect(all - hard == Double(3 * 2 * 2 * 9 * 16 * 64 + 2 * 1 * 2 * 9 * 36 * 16))
        #expect(try #require(answer.header["distinctRoutes"]?.int) > 1)
        #expect(try route(["summary": true], targets: false).tensors.isEmpty && route(targets: false).header["classInformation"] == nil)
        // A row's route does not depend on the rows beside it.
        let few = try state.answer(QueryBytes(verb: "route", header: [:], tensors: rows.rows(5..<8).tensors), key: Self.key)
        let ids = try #require(answer.tensors["stage1.chosen"]).doubles()
        #expect(try #require(few.tensors["stage1.chosen"]).doubles() == Array(ids[15..<24]))
        let description = try state.answer(QueryBytes(verb: "describe", header: [:]), key: Self.key).header
        #expect(try #require(description["classInformation"]?.double) > 0.05 && description["stages"]?.array?.count == 2)
    }

    @Test("questions that make no sense are refused by name")
    func questions() throws {
        let fixed = Self.settings(["model": ["channels": [4], "units": [2]], "routes": "fixed"])
        let first = try Self.loaded(fixed, try MethodCatalog.standard.make(Self.pipeline(fixed)).initialState(key: Self.key))
        let state = try Self.loaded(Self.settings(), try MethodCatalog.standard.make(Self.pipeline(Self.settings())).initialState(key: Self.key))
        let inputs = ["inputs": try #require(try Self.rows(2, 4).tensors["inputs"])]
        func problem(_ state: any LoadedState, _ verb: String, _ header: JSONValue) -> String {
            do throws(AccrueError) { _ = try state.answer(QueryBytes(verb: verb, header: header, tensors: inputs), key: Self.key); return "" } catch { return error.problem + error.hint }
        }
        #expect(problem(state, "predict", ["route": "hardest"]).contains("hard, soft, masked, gumbel") && problem(state, "predict", ["route": 1]).contains("'route' is 1"))
        #expect(problem(state, "route", ["permutations": -1]).contains("'permutations' is -1") && problem(state, "route", ["permutation": 1]).contains("permutation"))
        #expect(problem(first, "route", [:]).contains("fixed") && problem(first, "predict", ["route": "soft"]).contains("fixed") && problem(first, "predict", [:]) == "")
        #expect(problem(state, "rout", [:]).contains("'route'"))
    }

    @Test("an export of fewer units is taken with units appended that change no hard prediction; other differences are refused by name")
    func growing() throws {
        let small = Self.settings(), large = Self.settings(["model": ["channels": [4, 6], "units": [4, 2], "steps": [3, 2], "embedding": 4, "hidden": 6]])
        let old = try #require(try Self.run(small).last).state
        let method = try MethodCatalog.standard.make(Self.pipeline(large))
        let grown = try method.adopt(old, into: try method.initialState(key: Self.key), key: Self.key)
        let question = QueryBytes(verb: "predict", header: [:], tensors: try Self.rows(2, 50).tensors)
        let before = try #require(try Self.loaded(small, old).answer(question, key: Self.key).tensors["probabilities"]).doubles()
        let after = try #require(try method.load(grown).answer(question, key: Self.key).tensors["probabilities"]).doubles()
        for (a, b) in zip(before, after) { #expect(abs(a - b) < 1e-5) }
        // And learning goes on.
        let versions = try Self.run(large, rows: 120, start: old)
        #expect(versions.map { StoredSteps.of($0.state) } == [0, 72, 108])
        func problem(_ settings: JSONValue) -> String {
            do throws(AccrueError) {
                let method = try MethodCatalog.standard.make(Self.pipeline(settings))
                _ = try method.adopt(old, into: try method.initialState(key: Self.key), key: Self.key)
                return ""
            } catch { return error.code == .invalidInput ? error.problem : "another code: \(error.problem)" }
        }
        #expect(problem(Self.settings(["model": ["channels": [4, 8], "units": [3, 2], "embedding": 4, "hidden": 6]])).contains("has shape"))
        #expect(problem(Self.settings(["model": ["channels": [4, 6], "units": [3, 2], "embedding": 4, "hidden": 5]])).contains("has shape"))
        #expect(problem(Self.settings(["model": ["channels": [4, 6], "units": [3, 2], "steps": [4, 2], "embedding": 4, "hidden": 6]])).contains("step4"))
    }

    @Test("classes are appended without changing what is said of the old ones")
    func classes() throws {
        let settings = Self.settings(), state = try #require(try Self.run(settings).last).state
        let more = Scenario.classes(5, [1, 8, 8]), method = try MethodCatalog.standard.make(Self.pipeline(settings, schema: more))
        let adapted = try DynamicRouting.State(bytes: try method.adapt(state, from: Self.schema, key: Self.key)), old = try DynamicRouting.State(bytes: state)
        #expect(adapted.usage.table(stage: 0, step: 1) == old.usage.table(stage: 0, step: 1) + [[0, 0, 0], [0, 0, 0]])
        #expect(try adapted.weights.tensor("head.weight").rows(0..<3).bytes() == old.weights.tensor("head.weight").bytes())
        _ = try method.load(adapted.bytes)
    }

    @Test("a choice that takes nearly all steps, and choices that are hardly made, are remarked on")
    func remarks() throws {
        let method = try DynamicRouting(settings: try DynamicRouting.Settings(Self.settings(), schema: Self.schema), schema: Self.schema)
        var state = try method.initialState(key: Self.key)
        #expect(try method.remarks(on: state).isEmpty)
        func usage(_ first: [Int]) -> RouteUsage {
            var usage = RouteUsage(method.network)
            let labels = first.map { _ in 0 }, other = first.indices.map { $0 % 2 }
            usage.add([[first, first, first], [other, other]], classes: labels)
            return usage
        }
        state.usage = usage([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1])
        #expect(try method.remarks(on: state).map(\.text).first?.contains("choice 0 of 'stage1' takes 92 %") == true)
        state.usage = usage([0, 0, 1, 1])
        #expect(try method.remarks(on: state).map(\.text) == ["choices 2 of 'stage1' are hardly ever made"])
        state.usage = usage([0, 1, 2, 2])
        #expect(try method.remarks(on: state).isEmpty)
    }

    @Test("the temperature stays, falls exponentially, and has fallen where hard routes begin; later rounds begin there")
    func temperature() {
        let heat = DynamicRouting.Temperature(from: 5, to: 0.5, warmUp: 0.1, hard: 0.1)
        func at(_ step: Int, isFirst: Bool = true, after share: Double = 0) -> Double { heat.at(step, of: 100, after: .init(share: share, doubt: 0.3), isFirst: isFirst) }
        #expect(at(0) == 5 && at(10) == 5 && abs(at(90) - 0.5) < 1e-12 && abs(at(50) - (5 * 0.5).squareRoot()) < 1e-12 && at(99) <= 0.5 + 1e-12)
        #expect(at(0, isFirst: false) == 0.5 && at(40, after: 0.3) == 5 && abs(at(65, after: 0.3) - (5 * 0.5).squareRoot()) < 1e-12)
    }

    @Test("settings that make no sense are refused, naming the setting")
    func refused() throws {
        func problem(_ settings: [String: JSONValue], schema: Schema = Self.schema) -> String {
            do throws(AccrueError) { _ = try MethodCatalog.standard.make(Self.pipeline(.object(settings), schema: schema)); return "" } catch { return error.problem }
        }
        #expect(problem([:]) .contains("sides that 4 divides") == false)
        #expect(problem(["model": ["channels": [4, 8], "units": [2]]]).contains("settings.model.units") && problem(["model": ["channels": [8, 4]]]).contains("falls from 8 to 4"))
        #expect(problem(["model": ["channels": [4, 4, 4, 4, 4]]]).contains("16 divides") && problem(["model": ["kind": "mlp"]]).contains("kind"))
        #expect(problem(["routes": "hard"]).contains("settings.routes") && problem(["topK": 2]).contains("settings.topK") && problem(["routes": "topK", "topK": 9]).contains("settings.topK"))
        #expect(problem(["routes": "fixed", "penalties": ["balance": 1]]).contains("settings.penalties") && problem(["evaluation": "masked"]).contains("for measuring"))
        #expect(problem(["routes": "fixed", "model": ["units": [2, 2, 2], "steps": [3, 2, 2]]]).contains("settings.model.steps"))
        #expect(problem(["temperature": ["from": 1, "to": 2]]).contains("temperature.to") && problem(["temperature": ["warmUp": 0.6, "hard": 0.6]]).contains("temperature.hard"))
        #expect(problem(["order": ["share": 0.9]]).contains("order.share 0.9") && problem(["order": ["doubt": 2]]).contains("order.doubt"))
        #expect(problem(["routes": "fixed", "order": ["share": 0.1]]).contains("settings.order") && problem(["routes": "fixed", "model": ["affine": "step"]]).contains("model.affine"))
        #expect(problem(["penalties": ["cost": 1]]).contains("penalties.cost") && problem(["augment": ["pad": -1]]).contains("augment.pad") && problem(["batch": 1]).contains("batch"))
        #expect(problem(["model": ["units": [1, 1, 1]]]).contains("nothing to choose from") && problem([:], schema: Scenario.regression).contains("softmax"))
        let error = #expect(throws: AccrueError.self) { try Self.run(Self.settings(["batch": 50]), rows: 120, shards: 3) }
        #expect(error?.problem.contains("a shard has 40 rows") == true && error?.hint.contains("round.chunks") == true)
    }

    @Test("pictures as I420 frames, pooled, are what a network sees of them")
    func frames() throws {
        let spec = TensorSchema("inputs", role: .input, dtype: .u8, shape: [24], transform: .init(format: .i420, pool: 2, scale: 1 / 255.0, mean: [0.1, 0.2, 0.3], standardDeviation: [0.5, 1, 2]))
        let schema = Schema([spec, TensorSchema("targets", role: .target, dtype: .u8, shape: [], classes: ["a", "b"])])
        #expect(Design.inputShape(schema) == [3, 2, 2])
        let design = try Design(schema: schema, inputShape: [3, 2, 2], likelihood: .softmax(classes: 2))
        let bytes = TensorBytes((0..<48).map { UInt8($0 * 5) }, shape: [2, 24])
        let rows = try design.rows([try Rows(["inputs": bytes, "targets": TensorBytes([UInt8(0), 1], shape: [2])], schema: schema, while: "testing")])
        let rgb = try Tensor(bytes).rgbOfI420(side: 4).cast(to: .f64).reshaped([2, 3, 2, 2, 2, 2]).mean(3, 5)
        let expected = try ((rgb / 255) - (try Tensor([0.1, 0.2, 0.3], shape: [3, 1, 1]))) / (try Tensor([0.5, 1.0, 2.0], shape: [3, 1, 1]))
        #expect(try (rows.inputs(0..<2).cast(to: .f64) - expected).absolute().largest().item() < 1e-5)
    }
}

/// Steps of training in a stored state.
private enum StoredSteps {
    static func of(_ state: Data) -> Int { (try? DynamicRouting.State(bytes: state))?.steps ?? -1 }
}
