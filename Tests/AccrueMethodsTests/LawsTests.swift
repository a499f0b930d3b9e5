import AccrueCore
import AccrueMethods
import AccrueTensor
import Foundation
import Testing

/// What every method must obey, whatever it learns.
@Suite struct LawsTests {
    private static func round(_ shard: Int = 0, of shards: Int = 2, rows: Int = 120) -> Round {
        Round(
            index: 1, sweep: 0, sweeps: 1, shard: shard, shards: shards, shardRows: rows / shards, roundRows: rows, rowsBefore: 0,
            sweepKey: RoundKeys(seed: 5, version: 1).sweep(0))
    }

    /// Deltas of a round's two halves, and the work they start from.
    private static func fits(_ scenario: Scenario, _ method: any OpaqueMethod) throws -> (work: Data, deltas: [(delta: Data, rows: Int)], rows: Rows) {
        let keys = RoundKeys(seed: 5, version: 1)
        let rows = try scenario.rows(1, 120)
        let half = rows.count / 2
        let work = try method.begin(try method.initialState(key: RoundKeys.initial(seed: 5)), round: round(rows: rows.count), key: keys.begin)
        var deltas: [(delta: Data, rows: Int)] = []
        for shard in 0..<2 {
            let part = rows.rows(shard * half..<(shard + 1) * half)
            deltas.append((try method.fit(work, to: [part], round: round(shard, rows: rows.count), key: keys.fit(sweep: 0, shard: shard)).delta, half))
        }
        return (work, deltas, rows)
    }

    @Test("the same settings, seed and log give the same bytes", arguments: Scenario.all)
    func repeatable(_ scenario: Scenario) throws {
        EngineFingerprint.beginThread()
        #expect(try scenario.run() == scenario.run())
    }

    @Test("how rows lie in chunks and stretches does not change what a round learns", arguments: Scenario.all)
    func stretches(_ scenario: Scenario) throws {
        EngineFingerprint.beginThread()
        let method = try scenario.make(), keys = RoundKeys(seed: 5, version: 1)
        let rows = try scenario.rows(1, 60)
        let work = try method.begin(try method.initialState(key: RoundKeys.initial(seed: 5)), round: Self.round(of: 1, rows: 60), key: keys.begin)
        let round = Self.round(of: 1, rows: 60), key = keys.fit(sweep: 0, shard: 0)
        let whole = try method.fit(work, to: [rows], round: round, key: key).delta
        let cut = try method.fit(work, to: [rows.rows(0..<7), rows.rows(7..<41), rows.rows(41..<60)], round: round, key: key).delta
        #expect(whole == cut)
    }

    @Test("merging does not depend on the order of the shards, beyond rounding", arguments: Scenario.all)
    func order(_ scenario: Scenario) throws {
        EngineFingerprint.beginThread()
        let method = try scenario.make()
        let (work, deltas, rows) = try Self.fits(scenario, method)
        let keys = RoundKeys(seed: 5, version: 1)
        func state(_ deltas: [(delta: Data, rows: Int)]) throws -> Safetensors {
            let merged = try method.merge(deltas, into: work, round: Self.round(rows: rows.count), key: keys.merge(sweep: 0))
            var moments: [Data] = []
            if method.phases.statistics {
                let part = try method.statistics(of: merged, on: [rows], round: Self.round(of: 1, rows: rows.count), key: keys.statistics(shard: 0))
                moments = [try #require(part)]
            }
            return try Safetensors.decode(try method.finish(merged, round: Self.round(rows: rows.count), moments: moments, scores: nil, key: keys.finish))
        }
        let forward = try state(deltas), backward = try state(deltas.reversed())
        #expect(forward.tensors.keys.sorted() == backward.tensors.keys.sorted())
        for (name, tensor) in forward.tensors {
            let other = try #require(backward.tensors[name])
            for (a, b) in zip(tensor.doubles(), other.doubles()) { #expect(abs(a - b) <= 1e-4 * max(1, abs(a)), "\(name)") }
        }
    }

    @Test("what is learned predicts rows it has not seen better than the prior does", arguments: Scenario.all)
    func improves(_ scenario: Scenario) throws {
        EngineFingerprint.beginThread()
        let states = try scenario.run()
        let method = try scenario.make(), held = try scenario.rows(2, 200)
        let key = RandomKey(seed: 9)
        let before = try #require(try method.score(states[0], on: held, key: key)).figures
        let after = try #require(try method.score(states[states.count - 1], on: held, key: key)).figures
        let name = "logPredictiveDensity"
        #expect(try #require(after[name]) > #require(before[name]) + 0.1)
    }

    @Test("a prediction has one answer a row, with its uncertainty, and figures where targets came along", arguments: Scenario.all)
    func predicts(_ scenario: Scenario) throws {
        EngineFingerprint.beginThread()
        let method = try scenario.make(), rows = try scenario.rows(2, 11)
        let state = try method.load(try method.initialState(key: RandomKey(seed: 1)))
        let answer = try state.answer(QueryBytes(verb: "predict", header: ["draws": 3], tensors: rows.tensors), key: RandomKey(seed: 3))
        #expect(answer.header["rows"]?.int == rows.count)
        #expect(answer.header["figures"]?["logPredictiveDensity"]?.double?.isFinite == true)
        let again = try state.answer(QueryBytes(verb: "predict", header: ["draws": 3], tensors: rows.tensors), key: RandomKey(seed: 3))
        #expect(again.tensors == answer.tensors && again.header == answer.header)
        if let probabilities = answer.tensors["probabilities"] {
            let classes = probabilities.shape[1]
            #expect(answer.header["classes"] == .array((0..<classes).map { .string("c\($0)") }))
            let values = probabilities.doubles()
            for row in 0..<rows.count { #expect(abs(values[row * classes..<(row + 1) * classes].reduce(0, +) - 1) < 1e-9) }
        } else {
            #expect(answer.tensors["mean"]?.shape == [rows.count])
        }
        for name in ["aleatoric", "epistemic"] { #expect(try #require(answer.tensors[name]).doubles().allSatisfy { $0 >= 0 }) }
    }

    @Test("a query with a wrong type, shape or word is refused", arguments: Scenario.all)
    func refuses(_ scenario: Scenario) throws {
        let method = try scenario.make(), rows = try scenario.rows(2, 4)
        let state = try method.load(try method.initialState(key: RandomKey(seed: 1)))
        func code(_ verb: String, _ header: JSONValue, _ inputs: TensorBytes) -> AccrueError.Code? {
            do throws(AccrueError) {
                _ = try state.answer(QueryBytes(verb: verb, header: header, tensors: ["inputs": inputs]), key: RandomKey(seed: 3))
                return nil
            } catch { return error.code }
        }
        let inputs = try #require(rows.tensors["inputs"])
        #expect(code("predict", [:], inputs) == nil)
        #expect(code("predict", [:], TensorBytes(inputs.doubles(), shape: inputs.shape)) == .invalidInput)
        #expect(code("predict", [:], TensorBytes(dtype: .f32, shape: [inputs.elementCount], data: inputs.data)) == .invalidInput)
        #expect(code("predict", ["draws": 0], inputs) == .invalidInput)
        #expect(code("predict", ["draws": 1_000_000], inputs) == .limitExceeded)
        #expect(code("predict", ["drawz": 1], inputs) == .invalidInput)
        #expect(code("foretell", [:], inputs) == .notFound)
    }

    @Test("an export says what each of its tensors is, and is as good as the state", arguments: Scenario.all)
    func exports(_ scenario: Scenario) throws {
        EngineFingerprint.beginThread()
        let method = try scenario.make(), rows = try scenario.rows(2, 3)
        let state = try method.initialState(key: RandomKey(seed: 1))
        let export = try PosteriorExport(state: state, pipeline: "scenario", version: 4, method: scenario.method)
        let stored = try Safetensors.decode(export.bytes)
        let roles = try JSONValue(parsing: Data(try #require(stored.metadata["roles"]).utf8)).object ?? [:]
        #expect(roles.keys.sorted() == stored.tensors.keys.sorted() && roles.values.allSatisfy { $0.string?.isEmpty == false })
        #expect(stored.metadata["pipeline"] == "scenario" && stored.metadata["version"] == "4" && stored.metadata["method"] == scenario.method)
        func predict(_ bytes: Data) throws -> [String: TensorBytes] {
            try method.load(bytes).answer(QueryBytes(verb: "predict", header: ["draws": 2], tensors: rows.tensors), key: RandomKey(seed: 3)).tensors
        }
        #expect(try predict(export.bytes) == predict(state))
    }

    @Test("bytes of another method are refused as corrupt", arguments: Scenario.all)
    func corrupt(_ scenario: Scenario) throws {
        let method = try scenario.make()
        for bytes in [Data([1, 2, 3]), Safetensors(tensors: ["mean.dense.weight": TensorBytes([Float(1)], shape: [1])]).encode()] {
            let error = #expect(throws: AccrueError.self) { try method.load(bytes) }
            #expect(error?.code == .corrupt)
        }
    }

    @Test("settings with an unknown word or a value out of range are refused, naming it", arguments: Scenario.all)
    func settings(_ scenario: Scenario) throws {
        for (key, value) in [("epocs", JSONValue.integer(3)), ("batch", .integer(0))] {
            var wrong = scenario
            wrong.settings = .object((scenario.settings.object ?? [:]).merging([key: value]) { $1 })
            let error = #expect(throws: AccrueError.self) { try wrong.make() }
            #expect(error?.code == .invalidInput)
            #expect(error?.problem.contains(key) == true)
        }
    }

    @Test("a fit that is asked to stop says so", arguments: Scenario.networks)
    func stops(_ scenario: Scenario) throws {
        EngineFingerprint.beginThread()
        let method = try scenario.make(), keys = RoundKeys(seed: 5, version: 1)
        var round = Self.round(of: 1, rows: 60)
        let work = try method.begin(try method.initialState(key: keys.begin), round: round, key: keys.begin)
        round.shouldStop = { true }
        let rows = try scenario.rows(1, 60)
        let stopped = round
        let error = #expect(throws: AccrueError.self) { try method.fit(work, to: [rows], round: stopped, key: keys.fit(sweep: 0, shard: 0)) }
        #expect(error?.code == .unavailable)
    }
}
