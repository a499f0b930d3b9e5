import AccrueBayes
import AccrueCore
import AccrueTensor
import Foundation
import Testing

@testable import AccrueMethods

@Suite struct WeightAveragingTests {
    private static func tree(_ value: Double) throws -> NamedTensors { NamedTensors([("dense.weight", try .full([1, 2], value)), ("dense.bias", try .zeros([1]))]) }

    private static func method(_ window: Int?) throws -> PointAverage {
        var settings: [String: JSONValue] = ["model": ["kind": "linear"], "likelihood": ["kind": "gaussian", "noisePrecision": 1]]
        if let window { settings["window"] = .integer(window) }
        return PointAverage(model: try AveragingModel(settings: try .init(.object(settings), schema: Scenario.regression), schema: Scenario.regression))
    }

    private static let round = Round(index: 1, sweep: 0, sweeps: 1, shards: 2, shardRows: 4, roundRows: 4, rowsBefore: 0, sweepKey: RandomKey(seed: 1))

    private static func merged(_ method: PointAverage, _ work: PointAverage.Work, _ values: [(Double, Int)], collected: Int) throws -> PointAverage.Work {
        var deltas: [Weighted<PointAverage.Delta>] = []
        for (value, rows) in values {
            deltas.append(Weighted(.init(weights: try tree(value), average: try tree(value), collected: collected), rows: rows))
        }
        return try method.merge(deltas, into: work, round: round, key: RandomKey(seed: 1))
    }

    @Test("the average over sweeps is the mean of everything collected, shards by their rows")
    func average() throws {
        let method = try Self.method(nil)
        var work = PointAverage.Work(average: try Self.tree(100), weights: try Self.tree(0), collected: 0)
        work = try Self.merged(method, work, [(1, 3), (5, 1)], collected: 2)
        #expect(try work.average.tensor("dense.weight").doubles() == [2, 2])
        work = try Self.merged(method, work, [(8, 2), (8, 2)], collected: 1)
        #expect(try work.average.tensor("dense.weight").doubles() == [4, 4])
        #expect(work.collected == 3)
    }

    @Test("a window bounds what the average remembers")
    func window() throws {
        let method = try Self.method(4)
        var work = PointAverage.Work(average: try Self.tree(0), weights: try Self.tree(0), collected: 1000)
        work = try Self.merged(method, work, [(8, 1)], collected: 2)
        #expect(try work.average.tensor("dense.weight").doubles() == [4, 4])
        #expect(work.collected == 4)
    }

    @Test("batch statistics of the served average are those of the data, whatever the shards")
    func statistics() throws {
        EngineFingerprint.beginThread()
        let settings: JSONValue = ["model": ["kind": "mlp", "hidden": [6], "batchNorm": true], "epochs": 2, "batch": 20]
        var states: [Safetensors] = []
        for shards in [1, 2] {
            let pipeline = PipelineDeclaration(
                name: "bn", method: "WeightAveraging", seed: 1, schema: Scenario.classes(3, [2]), settings: settings, round: .init(chunks: 1), shards: shards)
            let rows = try Scenario.blobs(1, 120)
            let last = try LocalRun(pipeline: pipeline, method: try MethodCatalog.standard.make(pipeline), rows: rows, chunks: [0..<120]).run { (_) throws(AccrueError) in }
            let state = try Safetensors.decode(last.state)
            states.append(state)
            // The first layer's flow depends on no other batch norm: its mean is exactly W·mean(x) + b.
            let weight = try #require(state.tensors["average.dense1.weight"]).doubles(), bias = try #require(state.tensors["average.dense1.bias"]).doubles()
            let x = try #require(rows.tensors["inputs"]).doubles()
            let mean = try #require(state.tensors["statistics.dense1.norm.mean"]).doubles(), variance = try #require(state.tensors["statistics.dense1.norm.variance"]).doubles()
            for unit in 0..<6 {
                let flow = (0..<120).map { weight[2 * unit] * x[2 * $0] + weight[2 * unit + 1] * x[2 * $0 + 1] + bias[unit] }
                let m = flow.reduce(0, +) / 120, v = flow.reduce(0) { $0 + ($1 - m) * ($1 - m) } / 120
                #expect(abs(mean[unit] - m) < 1e-4)
                #expect(abs(variance[unit] - v) < 1e-4 * max(1, v))
            }
        }
        #expect(states.count == 2)
    }

    @Test("averaged SGD on a noisy quadratic has the variance of a mean of iterates, not of the last one")
    func quadratic() {
        // Rate 0.1, curvature and noise 1: iterates have variance 0.0526316, means of 100 of them 0.0090527.
        var means: [Double] = [], lasts: [Double] = []
        for run in 0..<2_000 {
            let noise = (try? RandomKey(seed: 31).folding(run).normal([300], dtype: .f64).doubles()) ?? []
            var w = 0.0, sum = 0.0
            for (step, z) in noise.enumerated() {
                w -= 0.1 * (w + z)
                if step >= 200 { sum += w }
            }
            means.append(sum / 100)
            lasts.append(w)
        }
        func variance(_ values: [Double]) -> Double { values.reduce(0) { $0 + $1 * $1 } / Double(values.count) }
        // Five standard errors of a variance from 2,000 normal values are 16 %.
        #expect(abs(variance(means) / 0.0090527 - 1) < 0.16)
        #expect(abs(variance(lasts) / 0.0526316 - 1) < 0.16)
    }
}
