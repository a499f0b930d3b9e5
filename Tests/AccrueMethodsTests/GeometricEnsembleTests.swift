import AccrueBayes
import AccrueCore
import AccrueTensor
import Foundation
import Testing

@testable import AccrueMethods

@Suite("FGE")
struct GeometricEnsembleTests {
    init() { EngineFingerprint.beginThread() }

    private static let schema = Scenario.classes(3, [2])

    private static func method(_ settings: [String: JSONValue] = [:]) throws -> GeometricEnsemble {
        let common: [String: JSONValue] = ["model": ["kind": "mlp", "hidden": [6]], "epochs": 8, "batch": 20, "posterior": "fge"]
        return GeometricEnsemble(model: try AveragingModel(settings: try .init(.object(common.merging(settings) { $1 }), schema: schema), schema: schema))
    }

    private static func round(_ sweep: Int = 0, sweeps: Int = 1, shard: Int = 0, shards: Int = 1, rows: Int = 120) -> Round {
        Round(
            index: 1, sweep: sweep, sweeps: sweeps, shard: shard, shards: shards, shardRows: rows / shards, roundRows: rows, rowsBefore: 0,
            sweepKey: RandomKey(seed: 1))
    }

    @Test("cycles have the golden rates, and weights are collected when the rate has fallen to its lowest")
    func schedule() throws {
        let model = try Self.method(["learningRate": 0.1, "averageFrom": 0.5, "cycle": ["epochs": 4, "high": 0.05, "low": 0.01]]).model
        // Two steps an epoch: the golden rates are those at half epochs.
        let plan = try model.plan(Self.round(rows: 40)), loop = model.loop(plan)
        #expect(plan.steps == 16)
        let rates = (0..<16).map { loop.schedule.rate(at: Double($0)) }
        for (rate, golden) in zip(rates.suffix(8), [0.05, 0.04, 0.03, 0.02, 0.01, 0.02, 0.03, 0.04]) { #expect(abs(rate - golden) < 1e-12) }
        // Before them SWA's approach, from one rate to the other.
        #expect(rates.prefix(5).allSatisfy { $0 == 0.1 } && abs(rates[6] - 0.06875) < 1e-12 && abs(rates[7] - 0.053125) < 1e-12)
        let collected = (0..<16).filter { $0 >= loop.averageFrom && ($0 + 1 - loop.averageFrom) % loop.averageEvery == 0 }
        #expect(collected == [11])
        // From the first step on: cycles of four epochs have their middles after two epochs and after six.
        let always = try Self.method(["averageFrom": 0, "cycle": ["epochs": 4]]).model
        let every = always.loop(try always.plan(Self.round(rows: 40)))
        #expect((0..<16).filter { $0 >= every.averageFrom && ($0 + 1 - every.averageFrom) % every.averageEvery == 0 } == [3, 11])
        #expect(every.schedule.rate(at: 0) == 0.05)
    }

    private static func tree(_ value: Double) throws -> NamedTensors {
        try method().model.initialWeights(key: RandomKey(seed: 1)).map { (tensor) throws(AccrueError) in try .full(tensor.shape, value) }
    }

    @Test("members follow by cycle and shard, whatever the order of arrival; over the limit the oldest go")
    func members() throws {
        let method = try Self.method(["members": 5])
        func delta(_ shard: Int, _ values: [Double]) throws -> Weighted<GeometricEnsemble.Delta> {
            Weighted(.init(shard: shard, members: try values.map { try Self.tree($0) }, weights: try Self.tree(Double(shard))), rows: 60)
        }
        func values(_ work: GeometricEnsemble.Work) throws -> [Double] { try work.members.map { try $0.tensor("dense1.bias").doubles()[0] } }
        let start = GeometricEnsemble.Work(members: [try Self.tree(1), try Self.tree(2)], weights: try Self.tree(0), collected: 2)
        let deltas = [try delta(0, [10, 11]), try delta(1, [20, 21])], round = Self.round(shards: 2)
        let merged = try method.merge(deltas, into: start, round: round, key: RandomKey(seed: 1))
        #expect(try values(merged) == [2, 10, 20, 11, 21] && merged.collected == 6)
        #expect(try method.merge(deltas.reversed(), into: start, round: round, key: RandomKey(seed: 1)).bytes == merged.bytes)
        // A sweep without a lowest rate adds none.
        let empty = try method.merge([try delta(0, []), try delta(1, [])], into: merged, round: round, key: RandomKey(seed: 1))
        #expect(try values(empty) == [2, 10, 20, 11, 21] && empty.collected == 6)
    }

    @Test("random first weights are no member once something was learned")
    func first() throws {
        let method = try Self.method(), state = try method.initialState(key: RandomKey(seed: 1))
        #expect(state.members.count == 1)
        #expect(try method.begin(state, round: Self.round(), key: RandomKey(seed: 1)).members.isEmpty)
    }

    /// States of two rounds over blobs.
    private static func states(_ settings: [String: JSONValue], shards: Int = 2) throws -> [GeometricEnsemble.State] {
        let common: [String: JSONValue] = ["model": ["kind": "mlp", "hidden": [6]], "epochs": 8, "batch": 20, "posterior": "fge"]
        let pipeline = PipelineDeclaration(
            name: "fge", method: "WeightAveraging", seed: 1, schema: schema, settings: .object(common.merging(settings) { $1 }),
            round: .init(chunks: 1), shards: shards)
        var states: [GeometricEnsemble.State] = []
        let run = LocalRun(pipeline: pipeline, method: try MethodCatalog.standard.make(pipeline), rows: try Scenario.blobs(1, 240), chunks: [0..<120, 120..<240])
        _ = try run.run { (version) throws(AccrueError) in states.append(try .init(bytes: version.state)) }
        return states
    }

    @Test("a prediction is the mean of the members', and its log density at least theirs on average")
    func averages() throws {
        let method = try Self.method(), state = try #require(try Self.states([:]).last)
        #expect(state.members.count == 8 && state.collected == 8)
        let rows = try Scenario.blobs(2, 60)
        func answer(_ state: GeometricEnsemble.State) throws -> QueryBytes {
            try method.load(state).answer(QueryBytes(verb: "predict", header: ["draws": 3], tensors: rows.tensors), key: RandomKey(seed: 3))
        }
        let together = try answer(state)
        // All members answer, whatever number of draws is asked for.
        #expect(together.header["draws"]?.int == 8)
        var mean = [Double](repeating: 0, count: 180), density = 0.0
        for (member, statistics) in zip(state.members, state.statistics) {
            let alone = try answer(.init(members: [member], statistics: [statistics], weights: state.weights, collected: 1))
            #expect(alone.header["draws"]?.int == 1)
            for (place, p) in try #require(alone.tensors["probabilities"]).doubles().enumerated() { mean[place] += p / 8 }
            density += try #require(alone.header["figures"]?["logPredictiveDensity"]?.double) / 8
        }
        let probabilities = try #require(together.tensors["probabilities"]).doubles()
        for (one, other) in zip(probabilities, mean) { #expect(abs(one - other) < 1e-12) }
        #expect(try #require(together.header["figures"]?["logPredictiveDensity"]?.double) > density)
        #expect(try #require(together.tensors["epistemic"]).doubles().contains { $0 > 1e-6 })
    }

    @Test("every member has batch statistics of its own, those of the round's rows")
    func statistics() throws {
        let state = try #require(try Self.states(["model": ["kind": "mlp", "hidden": [6], "batchNorm": true], "members": 6]).last)
        let x = try #require(try Scenario.blobs(1, 240).tensors["inputs"]).doubles().suffix(240).map { $0 }
        #expect(state.members.count == 6 && state.statistics.count == 6)
        for (member, statistics) in zip(state.members, state.statistics) {
            // The first layer's flow depends on no other batch norm: its mean is exactly W·mean(x) + b.
            let weight = try member.tensor("dense1.weight").doubles(), bias = try member.tensor("dense1.bias").doubles()
            let mean = try statistics.tensor("dense1.norm.mean").doubles(), variance = try statistics.tensor("dense1.norm.variance").doubles()
            for unit in 0..<6 {
                let flow = (0..<120).map { weight[2 * unit] * x[2 * $0] + weight[2 * unit + 1] * x[2 * $0 + 1] + bias[unit] }
                let m = flow.reduce(0, +) / 120, v = flow.reduce(0) { $0 + ($1 - m) * ($1 - m) } / 120
                #expect(abs(mean[unit] - m) < 1e-4 && abs(variance[unit] - v) < 1e-4 * max(1, v))
            }
        }
    }

    @Test("a round that is taken up again in the middle of a cycle ends with the same bytes")
    func restart() throws {
        let rows = try Scenario.blobs(1, 120), key = RandomKey(seed: 4)
        // Eight epochs in four sweeps of two; cycles of four epochs are cut in their falling and in their rising halves.
        func last<Method: LearningMethod>(_ method: Method, restarts: Bool) throws -> Data {
            var work = try method.begin(try method.initialState(key: key), round: Self.round(sweeps: 4), key: key)
            for sweep in 0..<4 {
                let round = Self.round(sweep, sweeps: 4)
                if restarts { work = try .init(bytes: work.bytes) }
                var delta = try method.fit(work, to: [rows], round: round, key: key.folding(sweep)).delta
                if restarts { delta = try .init(bytes: delta.bytes) }
                work = try method.merge([Weighted(delta, rows: 120)], into: work, round: round, key: key)
            }
            return work.bytes
        }
        let ensemble = try Self.method(["averageFrom": 0.125, "cycle": ["epochs": 4]])
        #expect(try last(ensemble, restarts: true) == last(ensemble, restarts: false))
        let settings: JSONValue = ["model": ["kind": "mlp", "hidden": [6]], "epochs": 8, "batch": 20, "posterior": "swag", "rank": 4, "collectEvery": 5]
        let gaussian = SnapshotGaussian(model: try AveragingModel(settings: try .init(settings, schema: Self.schema), schema: Self.schema))
        #expect(try last(gaussian, restarts: true) == last(gaussian, restarts: false))
    }
}
