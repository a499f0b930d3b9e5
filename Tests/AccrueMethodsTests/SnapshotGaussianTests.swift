import AccrueBayes
import AccrueCore
import AccrueTensor
import Foundation
import Testing

@testable import AccrueMethods

@Suite("SWAG")
struct SnapshotGaussianTests {
    init() { EngineFingerprint.beginThread() }

    private static func method(_ settings: [String: JSONValue] = [:]) throws -> SnapshotGaussian {
        let all = ["model": ["kind": "linear"], "likelihood": ["kind": "gaussian", "noisePrecision": 1], "posterior": "swag"].merging(settings) { $1 }
        return SnapshotGaussian(model: try AveragingModel(settings: try .init(.object(all), schema: Scenario.regression), schema: Scenario.regression))
    }

    /// The three weights of a linear model.
    private static func tree(_ values: [Double]) throws -> NamedTensors {
        NamedTensors([
            ("dense.bias", try Tensor([Float(values[0])], shape: [1])), ("dense.weight", try Tensor(values.dropFirst().map(Float.init), shape: [1, 2])),
        ])
    }

    private static func numbers(_ tree: NamedTensors) throws -> [Double] { try tree.tensors.flatMap { try $0.tensor.doubles() } }

    private static func moments(_ path: [[Double]], keeping limit: Int) throws -> SnapshotMoments {
        var moments = try SnapshotMoments(at: try tree([9, 9, 9]))
        for weights in path { try moments.collect(try tree(weights), keeping: limit) }
        return moments
    }

    private static func isNear(_ a: [Double], _ b: [Double], _ tolerance: Double) -> Bool {
        a.count == b.count && zip(a, b).allSatisfy { abs($0 - $1) <= tolerance * max(1, abs($1)) }
    }

    @Test("of weights 0, 2, 4 with two columns: mean 2, variance 8/3, deviations 1 and 2")
    func golden() throws {
        let moments = try Self.moments([[0, 0, 0], [2, 2, 2], [4, 4, 4]], keeping: 2)
        #expect(try Self.numbers(moments.mean) == [2, 2, 2])
        #expect(Self.isNear(try Self.numbers(try moments.variances()), [8.0 / 3, 8.0 / 3, 8.0 / 3], 1e-15))
        #expect(try moments.deviations().map { try Self.numbers($0) } == [[1, 1, 1], [2, 2, 2]])
    }

    /// Mean and covariance of draws, over `count` of them.
    private static func drawn(_ method: SnapshotGaussian, _ moments: SnapshotMoments, count: Int) throws -> (mean: [Double], covariance: [[Double]]) {
        let draws = try method.draws(.init(posterior: method.model.settings.posterior, moments: moments, weights: try tree([0, 0, 0])))
        var sum = [0.0, 0, 0], products = [[Double]](repeating: sum, count: 3)
        for index in 0..<count {
            let w = try numbers(try draws(RandomKey(seed: 11).folding(index)))
            for i in 0..<3 {
                sum[i] += w[i]
                for j in 0..<3 { products[i][j] += w[i] * w[j] }
            }
        }
        let n = Double(count), mean = sum.map { $0 / n }
        return (mean, (0..<3).map { i in (0..<3).map { j in products[i][j] / n - mean[i] * mean[j] } })
    }

    @Test(
        "draws have the covariance scale² · ½ (diag σ² + Dᵀ D / (K − 1)), and without columns scale² · diag σ²",
        arguments: [("swag", 1.0), ("swag", 0.5), ("swagDiagonal", 1.0)])
    func covariance(posterior: String, scale: Double) throws {
        let method = try Self.method(["posterior": .string(posterior), "drawScale": .number(scale)])
        let moments = try Self.moments([[0, 1, 5], [2, -1, 5.5], [4, 0, 4]], keeping: posterior == "swag" ? 2 : 0)
        let count = posterior == "swag" && scale == 1 ? 100_000 : 20_000
        let (mean, covariance) = try Self.drawn(method, moments, count: count)
        // By hand: running means (1, 0, 5.25) and (2, 0, 29/6) leave deviations (1, −1, 0.25) and (2, 0, −5/6).
        let columns = [[1, -1, 0.25], [2, 0, -5.0 / 6]], variances = [8.0 / 3, 2.0 / 3, 7.0 / 18]
        for i in 0..<3 {
            for j in 0..<3 {
                func closed(_ i: Int, _ j: Int) -> Double {
                    let diagonal = i == j ? variances[i] : 0
                    return scale * scale * (posterior == "swag" ? 0.5 * (diagonal + columns[0][i] * columns[0][j] + columns[1][i] * columns[1][j]) : diagonal)
                }
                let error = ((closed(i, i) * closed(j, j) + closed(i, j) * closed(i, j)) / Double(count)).squareRoot()
                #expect(abs(covariance[i][j] - closed(i, j)) < 5 * error, "\(i), \(j): \(covariance[i][j]) against \(closed(i, j))")
            }
            let error = (covariance[i][i] / Double(count)).squareRoot()
            #expect(abs(mean[i] - [2, 0, 29.0 / 6][i]) < 5 * error)
        }
        // The page's golden number: weights 0, 2, 4 with scale ½ of the paper.
        if posterior == "swag", scale == 1 { #expect(abs(covariance[0][0] / 3.8333 - 1) < 0.02) }
    }

    /// Snapshots of one weight vector a step, shard and sweep, far from zero, so that cancellation would show.
    private static func snapshot(_ numbers: Int...) throws -> [Double] {
        var key = RandomKey(seed: 17)
        for number in numbers { key = key.folding(number) }
        return try key.normal([3], dtype: .f64).doubles().map { Double(Float(1_000 + $0)) }
    }

    @Test("moments and columns merged over shards, sweeps, rounds and restarts are those of one pass over the union", arguments: [1, 3])
    func exact(shards: Int) throws {
        let rank = 7, rows = [5, 3, 4].prefix(shards), all = rows.reduce(0, +)
        let method = try Self.method(["rank": .integer(rank), "window": 1_000_000])
        var state = try method.initialState(key: RandomKey(seed: 1))
        // One pass: weighted means and squares in Float64, over snapshots in the order of rounds, sweeps, steps and shards.
        var count = 0.0, mean = [0.0, 0, 0], squares = [0.0, 0, 0], columns: [[Double]] = []
        for roundIndex in 1...2 {
            func round(_ sweep: Int) -> Round {
                Round(
                    index: roundIndex, sweep: sweep, sweeps: 2, shards: shards, shardRows: all / shards, roundRows: all, rowsBefore: 0, sweepKey: RandomKey(seed: 1))
            }
            var work = try method.begin(state, round: round(0), key: RandomKey(seed: 1))
            for sweep in 0..<2 {
                var deltas: [Weighted<SnapshotGaussian.Delta>] = []
                for (shard, rows) in rows.enumerated() {
                    let path = try (0..<4).map { try Self.snapshot(roundIndex, sweep, shard, $0) }
                    let limit = (rank + shards - 1) / shards
                    let delta = SnapshotGaussian.Delta(shard: shard, moments: try Self.moments(path, keeping: limit), weights: try Self.tree(path[3]))
                    deltas.append(Weighted(try .init(bytes: delta.bytes), rows: rows))
                }
                let merged = try method.merge(deltas, into: work, round: round(sweep), key: RandomKey(seed: 1))
                // In another order the same bytes; and a restart goes on from bytes.
                #expect(try method.merge(deltas.reversed(), into: work, round: round(sweep), key: RandomKey(seed: 1)).bytes == merged.bytes)
                work = try .init(bytes: merged.bytes)
                for step in 0..<4 {
                    for (shard, rows) in rows.enumerated() {
                        let w = try Self.snapshot(roundIndex, sweep, shard, step), share = Double(rows) / Double(all)
                        count += share
                        let before = mean
                        for i in 0..<3 {
                            mean[i] += (w[i] - mean[i]) * share / count
                            squares[i] += share * (w[i] - before[i]) * (w[i] - mean[i])
                        }
                        columns.append((0..<3).map { w[$0] - mean[$0] })
                    }
                }
            }
            state = try .init(bytes: try method.finish(work, round: round(1), moments: [], scores: nil, key: RandomKey(seed: 1)).bytes)
        }
        #expect(abs(state.moments.count - 16) < 1e-12 && abs(count - 16) < 1e-12)
        #expect(Self.isNear(try Self.numbers(state.moments.mean), mean, 1e-14))
        #expect(Self.isNear(try Self.numbers(try state.moments.variances()), squares.map { $0 / count }, 1e-11))
        let found = try state.moments.deviations().map { try Self.numbers($0) }
        #expect(found.count == rank)
        for (one, other) in zip(found, columns.suffix(rank)) { #expect(Self.isNear(one, other, 1e-6)) }
    }

    @Test("a window makes of what was collected before an exponential average: its mean, variance and columns stay, and count less")
    func window() throws {
        let method = try Self.method(["window": 4, "rank": 5])
        let old = try Self.moments([[0, 0, 0], [2, 2, 2], [4, 4, 4], [2, 2, 2], [1, 1, 1], [3, 3, 3]], keeping: 5)
        let new = try Self.moments([[8, 8, 8], [6, 6, 6]], keeping: 5)
        let round = Round(index: 2, sweep: 0, sweeps: 1, shards: 1, shardRows: 4, roundRows: 4, rowsBefore: 4, sweepKey: RandomKey(seed: 1))
        let work = SnapshotGaussian.State(posterior: .swag, moments: old, weights: try Self.tree([0, 0, 0]))
        let merged = try method.merge(
            [Weighted(.init(shard: 0, moments: new, weights: try Self.tree([0, 0, 0])), rows: 4)], into: work, round: round, key: RandomKey(seed: 1))
        #expect(merged.moments.count == 4)
        // Two of the old, mean 2 and variance 10/6; two new, mean 7 and variance 1.
        #expect(Self.isNear(try Self.numbers(merged.moments.mean), [4.5, 4.5, 4.5], 1e-15))
        let variance: Double = (20.0 / 6 + 2 + 25) / 4
        #expect(Self.isNear(try Self.numbers(try merged.moments.variances()), [variance, variance, variance], 1e-14))
        let after = try merged.moments.deviations()
        for (one, other) in zip(after, try old.deviations().suffix(3)) { #expect(Self.isNear(try Self.numbers(one), try Self.numbers(other), 1e-6)) }
        // What came first is 8 against a mean of (2·2 + 8)/3 then.
        #expect(Self.isNear(try Self.numbers(after[3]), [4, 4, 4], 1e-6))
        // Without a window a round begins with nothing.
        #expect(try Self.method().begin(work, round: round, key: RandomKey(seed: 1)).moments.count == 0)
    }

    /// The last state of a run over blobs, decoded.
    private static func run(_ settings: [String: JSONValue], shards: Int = 2) throws -> Safetensors {
        let common: [String: JSONValue] = ["model": ["kind": "mlp", "hidden": [6]], "epochs": 6, "batch": 20, "collectEvery": 3]
        let pipeline = PipelineDeclaration(
            name: "swag", method: "WeightAveraging", seed: 1, schema: Scenario.classes(3, [2]), settings: .object(common.merging(settings) { $1 }),
            round: .init(chunks: 1), shards: shards)
        let rows = try Scenario.blobs(1, 240)
        let run = LocalRun(pipeline: pipeline, method: try MethodCatalog.standard.make(pipeline), rows: rows, chunks: [0..<120, 120..<240])
        return try Safetensors.decode(try run.run { (_) throws(AccrueError) in }.state)
    }

    @Test("the mean is the average that SWA serves, and SGD goes the same way")
    func point() throws {
        for window in [nil, 1_000] as [JSONValue?] {
            var settings: [String: JSONValue] = [:]
            settings["window"] = window
            let point = try Self.run(settings)
            for posterior in ["swagDiagonal", "swag"] {
                let swag = try Self.run(settings.merging(["posterior": .string(posterior)]) { $1 })
                #expect(try swag.doubles("count", while: "testing")[0] == Double(try StoredTrees.whole("collected", point)))
                for (name, tensor) in point.tensors where name.hasPrefix("weights.") { #expect(swag.tensors[name] == tensor) }
                for (name, tensor) in point.tensors where name.hasPrefix("average.") {
                    let mean = try swag.doubles("mean." + name.dropFirst(8), shape: tensor.shape, while: "testing")
                    #expect(Self.isNear(mean, tensor.doubles(), 1e-6))
                }
                #expect(swag.tensors.keys.contains { $0.hasPrefix("newest.") } == (posterior == "swag"))
            }
        }
    }

    @Test("one collected network is the mean without a spread; a rate of zero collects the same network again and again")
    func limits() throws {
        let one = try Self.run(["posterior": "swag", "averageFrom": 1], shards: 1)
        let still = try Self.run(["posterior": "swag", "averagingRate": 0, "averageFrom": 0.8], shards: 1)
        for (state, count) in [(one, 1.0), (still, 2)] {
            #expect(try state.doubles("count", while: "testing") == [count])
            for (name, tensor) in state.tensors where name.hasPrefix("mean.") {
                #expect(tensor.doubles() == state.tensors["weights." + name.dropFirst(5)]?.doubles())
                #expect(state.tensors["centredSquares." + name.dropFirst(5)]?.doubles().allSatisfy { $0 == 0 } == true)
            }
        }
    }

    @Test("with draws of scale zero every draw is the mean, bit for bit")
    func still() throws {
        for posterior in ["swag", "swagDiagonal"] {
            let method = try Self.method(["posterior": .string(posterior), "drawScale": 0])
            let moments = try Self.moments([[0, 1, 5], [2, -1, 5.5], [4, 0, 3.75]], keeping: posterior == "swag" ? 2 : 0)
            let state = SnapshotGaussian.State(posterior: method.model.settings.posterior, moments: moments, weights: try Self.tree([0, 0, 0]))
            let draw = try method.draws(state)(RandomKey(seed: 5))
            #expect(try Self.numbers(draw) == Self.numbers(moments.mean))
        }
    }

    @Test("a shard sends its part of the newest; the version has as many as the settings say")
    func parts() throws {
        let state = try Self.run(["posterior": "swag", "rank": 3, "collectEvery": 1])
        #expect(try state.doubles("shares", while: "testing") == [0.5, 0.5, 0.5])
        let settings: JSONValue = ["model": ["kind": "mlp", "hidden": [6]], "posterior": "swag", "rank": 3, "collectEvery": 1, "batch": 20]
        let schema = Scenario.classes(3, [2])
        let method = SnapshotGaussian(model: try AveragingModel(settings: try .init(settings, schema: schema), schema: schema))
        let round = Round(index: 1, sweep: 0, sweeps: 1, shard: 1, shards: 2, shardRows: 60, roundRows: 120, rowsBefore: 0, sweepKey: RandomKey(seed: 1))
        let start = try method.begin(try method.initialState(key: RandomKey(seed: 1)), round: round, key: RandomKey(seed: 1))
        let delta = try method.fit(start, to: [try Scenario.blobs(1, 60)], round: round, key: RandomKey(seed: 2)).delta
        #expect(delta.shard == 1 && delta.moments.newest.count == 2 && delta.moments.count > 2)
    }

    @Test("on a noisy quadratic SWAG's variance is that of SGD's iterates less that of their mean")
    func quadratic() throws {
        // 2,000 chains side by side. Rate 0.1, curvature and noise 1: iterates have variance 0.0526316, means of 100 of them 0.0090527.
        var w = try Tensor.zeros([2_000])
        var moments = try SnapshotMoments(at: NamedTensors([("w", w)]))
        for step in 0..<300 {
            w = try w * 0.9 - (try RandomKey(seed: 31).folding(step).normal([2_000])) * 0.1
            if step >= 200 { try moments.collect(NamedTensors([("w", w)]), keeping: 0) }
        }
        // Five standard errors: one chain's variance, of 100 correlated iterates, is known to 44 %, a square of a mean to 141 %.
        #expect(abs(try moments.variances().tensor("w").mean().item() / (0.0526316 - 0.0090527) - 1) < 0.05)
        #expect(abs(try moments.mean.tensor("w").squared().mean().item() / 0.0090527 - 1) < 0.16)
    }

    @Test("describe says what was collected, how wide it is, and how many variances were clamped")
    func describe() throws {
        let method = try Self.method(["drawScale": 0.5])
        let state = SnapshotGaussian.State(posterior: .swag, moments: try Self.moments([[0, 1, 5], [2, 1, 5]], keeping: 20), weights: try Self.tree([1, 1, 5]))
        let header = try method.load(state).answer(QueryBytes(verb: "describe", header: [:]), key: RandomKey(seed: 1)).header
        #expect(header["posterior"]?.string == "swag" && header["collected"]?.double == 2 && header["rank"]?.int == 2 && header["drawScale"]?.double == 0.5)
        let deviation = try #require(header["meanDeviation"]?.double), clamped = try #require(header["clampedShare"]?.double)
        #expect(abs(deviation - 1.0 / 3) < 1e-12 && abs(clamped - 2.0 / 3) < 1e-12)
        #expect(header["distanceToLastWeights"]?.double == 0)
    }
}
