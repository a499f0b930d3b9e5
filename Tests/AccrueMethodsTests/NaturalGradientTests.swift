import AccrueBayes
import AccrueCore
import AccrueTensor
import Foundation
import Testing

@testable import AccrueMethods

/// Natural-gradient inference against what it estimates: the factorised optimum of linear-Gaussian models, and second derivatives of networks.
@Suite struct NaturalGradientTests {
    init() { EngineFingerprint.beginThread() }

    private static func method(_ settings: [String: JSONValue], _ schema: Schema, inputs: [Int] = [2]) throws -> NaturalGradient {
        let settings = try IncrementalBayes.Settings(.object(settings.merging(["inference": "naturalGradient"]) { $1 }), schema: schema)
        let network = try settings.model.network(inputShape: inputs, outputs: settings.likelihood.outputs)
        let design = try Design(schema: schema, network: network, likelihood: settings.likelihood)
        return NaturalGradient(model: IncrementalModel(settings: settings, schema: schema, network: network, design: design))
    }

    private static let weight = "dense.weight"

    /// A round of y = w·x + noise (precision b) over two weights, and its factorised optimum, by the algebra of 2 × 2 matrices.
    struct Linear {
        /// x₀, x₁ and y of each row.
        var rows: [[Double]]
        var shards = 1
        var b = 4.0
        var temperature = 1.0, keep = 1.0
        /// Of the first prior, N(0, I), and the last posterior; nil: this is the first round.
        var last: (mean: [Double], precision: [Double])?

        var count: Double { Double(rows.count) / temperature }
        var centre: [Double] { last?.mean ?? [0, 0] }
        /// P₀, κ-mixed.
        var prior: [Double] { (last?.precision ?? [1, 1]).map { 1 + keep * ($0 - 1) } }
        /// A row's Hessian of the mean loss, and the gradient Aw − c's constant, of some rows.
        func loss(_ rows: [[Double]]) -> (a: [[Double]], c: [Double]) {
            func mean(_ f: ([Double]) -> Double) -> Double { b * rows.map(f).reduce(0, +) / Double(rows.count) }
            return ((0..<2).map { i in (0..<2).map { j in mean { $0[i] * $0[j] } } }, (0..<2).map { i in mean { $0[i] * $0[2] } })
        }
        var precision: [Double] { let a = loss(rows).a; return (0..<2).map { prior[$0] + count * a[$0][$0] } }
        /// (A + δ)⁻¹ v.
        func solved(_ v: [Double]) -> [Double] {
            var m = loss(rows).a
            for i in 0..<2 { m[i][i] += prior[i] / count }
            let determinant = m[0][0] * m[1][1] - m[0][1] * m[1][0]
            return [(m[1][1] * v[0] - m[0][1] * v[1]) / determinant, (m[0][0] * v[1] - m[1][0] * v[0]) / determinant]
        }
        var mean: [Double] { let c = loss(rows).c; return solved((0..<2).map { c[$0] + prior[$0] / count * centre[$0] }) }

        static let schema = Schema([
            TensorSchema("inputs", role: .input, dtype: .f64, shape: [2]), TensorSchema("targets", role: .target, dtype: .f64, shape: []),
        ])
        func parts() throws -> [Rows] {
            try (0..<shards).map { shard in
                let some = rows[shard * rows.count / shards..<(shard + 1) * rows.count / shards]
                return try Rows(
                    [
                        "inputs": TensorBytes(some.flatMap { [$0[0], $0[1]] }, shape: [some.count, 2]),
                        "targets": TensorBytes(some.map { $0[2] }, shape: [some.count]),
                    ], schema: Self.schema, while: "testing")
            }
        }

        /// Learns the round, each step of the shards merged; `gain` is 1 − β₂.
        func learned(steps: Int, gain: Double, rate: Double = 0.05) throws -> PrecisionState {
            let method = try NaturalGradientTests.method(
                [
                    "model": ["kind": "linear", "bias": false], "likelihood": ["kind": "gaussian", "noisePrecision": .number(b)], "epochs": .integer(steps),
                    "batch": .integer(rows.count), "learningRate": .number(rate), "hessianMomentum": .number(1 - gain), "temperature": .number(temperature),
                    "keep": .number(keep), "initialHessian": 5, "stepMax": 1_000,
                ], Self.schema)
            let sweeps = shards == 1 ? 1 : steps, key = RandomKey(seed: 1), parts = try parts()
            func round(_ sweep: Int, _ shard: Int) -> Round {
                Round(
                    index: last == nil ? 1 : 2, sweep: sweep, sweeps: sweeps, shard: shard, shards: shards, shardRows: parts[shard].count, roundRows: rows.count,
                    rowsBefore: 0, sweepKey: key)
            }
            var state = try method.initialState(key: key)
            if let last {
                state.mean = NamedTensors([(weight, try Tensor(last.mean.map(Float.init), shape: [1, 2]))])
                state.precision = NamedTensors([(weight, try Tensor(last.precision.map(Float.init), shape: [1, 2]))])
            }
            var work = try method.begin(state, round: round(0, 0), key: key)
            for sweep in 0..<sweeps {
                var deltas: [Weighted<NaturalGradient.Delta>] = []
                for shard in 0..<shards {
                    let key = key.folding(sweep).folding(shard)
                    deltas.append(Weighted(try method.fit(work, to: [parts[shard]], round: round(sweep, shard), key: key).delta, rows: parts[shard].count))
                }
                work = try method.merge(deltas, into: work, round: round(sweep, 0), key: key)
            }
            return try method.finish(work, round: round(0, 0), moments: [], scores: nil, key: key)
        }

        /// How far a run of that many steps may be from the optimum: five standard errors of its tail's means, and what the gain's square adds.
        func tolerance(steps: Int, gain: Double) -> (mean: [Double], precision: [Double]) {
            let deviation = precision.map { 1 / $0.squareRoot() }, averaged = Double(steps) / 2, parts = (0..<shards).map { shard in
                Array(rows[shard * rows.count / shards..<(shard + 1) * rows.count / shards])
            }
            var meanVariance = [0.0, 0.0], meanBias = [0.0, 0.0], hessianVariance = [0.0, 0.0], hessianBias = [0.0, 0.0]
            for part in parts {
                let (a, c) = loss(part), share = Double(part.count) / Double(rows.count)
                // The tail's mean solves (A + δ)(m − m*) = −Σ share A σ ε, with ε the mean of the tail's normals.
                for j in 0..<2 {
                    let moved = solved([a[0][j] * deviation[j] * share, a[1][j] * deviation[j] * share])
                    for i in 0..<2 { meanVariance[i] += moved[i] * moved[i] / averaged }
                }
                var pull = [0.0, 0.0]
                for i in 0..<2 {
                    let slope = a[i][0] * mean[0] + a[i][1] * mean[1] - c[i], h = precision[i] / count
                    // ĥ = (slope + Σ_j A_ij σ_j ε_j) ε_i / σ_i. Means wander by less than draws do: they at most double what is not the weight's own.
                    let other = a[i][1 - i] * deviation[1 - i]
                    let variance = 2 * a[i][i] * a[i][i] + 2 * (slope * slope + other * other) / (deviation[i] * deviation[i])
                    hessianVariance[i] += share * share * variance / averaged
                    hessianBias[i] += share * gain * variance / (2 * h)
                    // A step's H moves with its own gradient: cov(g, ĥ) = 2 slope A_ii to first order.
                    pull[i] = share * gain * 2 * abs(slope) * a[i][i] / h
                }
                let shift = solved(pull), turned = solved([pull[0], -pull[1]])
                for i in 0..<2 { meanBias[i] += shards > 1 ? max(abs(shift[i]), abs(turned[i])) : 0 }
            }
            return (
                (0..<2).map { 5 * meanVariance[$0].squareRoot() + meanBias[$0] + 1e-3 },
                (0..<2).map { count * (5 * hessianVariance[$0].squareRoot() + 2 * hessianBias[$0]) }
            )
        }
    }

    private static let golden: [[Double]] = [[1, 0, 1], [1, 1, 2], [1, 2, 2], [1, 3, 4]]

    @Test("a linear-Gaussian round comes to the factorised optimum: the exact mean, and the diagonal of the exact precision", arguments: [
        Linear(rows: golden), Linear(rows: golden, temperature: 0.25), Linear(rows: golden, temperature: 3),
        Linear(rows: Array(golden[2...]), keep: 0.6, last: ([0.965517, 0.827586], [9, 5])),
        Linear(rows: Array(golden[2...]), temperature: 0.5, last: ([0.965517, 0.827586], [9, 5])),
    ])
    func optimum(_ problem: Linear) throws {
        let steps = 5_000, gain = 1e-3
        try expect(try problem.learned(steps: steps, gain: gain), problem, problem.tolerance(steps: steps, gain: gain))
    }

    @Test("the optimum of the golden case is the known one")
    func known() {
        let problem = Linear(rows: Self.golden)
        for (found, expected) in zip(problem.mean + problem.precision, [0.824427481, 0.916030534, 17, 57]) { #expect(abs(found - expected) < 1e-8) }
    }

    @Test("two shards that are merged at every step come to the same optimum, and their information adds")
    func shards() throws {
        let problem = Linear(rows: Self.golden, shards: 2), steps = 3_000, gain = 2e-3
        try expect(try problem.learned(steps: steps, gain: gain), problem, problem.tolerance(steps: steps, gain: gain))
    }

    private func expect(_ state: PrecisionState, _ problem: Linear, _ tolerance: (mean: [Double], precision: [Double])) throws {
        let mean = try state.mean.tensor(Self.weight).doubles(), precision = try state.precision.tensor(Self.weight).doubles()
        for i in 0..<2 {
            #expect(abs(mean[i] - problem.mean[i]) < tolerance.mean[i], "mean \(mean), not \(problem.mean), within \(tolerance.mean)")
            #expect(abs(precision[i] - problem.precision[i]) < tolerance.precision[i], "\(precision), not \(problem.precision), within \(tolerance.precision)")
            // A tolerance that would let the prior pass is none.
            #expect(tolerance.precision[i] < 0.5 * (problem.precision[i] - problem.prior[i]))
        }
    }

    @Test("the Hessian's estimate is, in expectation, the second derivative that finite differences give")
    func stein() throws {
        let schema = Scenario.classes(3, [2]), count = 40.0
        let method = try Self.method(["model": ["kind": "mlp", "hidden": [4]]], schema)
        let rows = try method.model.design.rows([try Scenario.blobs(3, 12)]), batch = try rows.batch(0..<12)
        func gradient(_ weights: NamedTensors) throws -> [String: [Double]] {
            let (_, slope) = try valueAndGradient(at: weights) { (w) throws(AccrueError) in try method.model.loss(w, batch) }
            return Dictionary(uniqueKeysWithValues: try slope.tensors.map { ($0.name, try $0.tensor.doubles()) })
        }
        let mean = try method.initialState(key: RandomKey(seed: 2)).mean, zeros = try mean.zeros()
        let half = try zeros.map { (tensor) throws(AccrueError) in try tensor + 0.25 }
        // With β₂ = 1 and no rate, it draws from one q = N(mean, 1/20) for ever.
        var newton = OnlineNewton(
            HessianGaussian(mean: mean, hessian: half), momentum: zeros, steps: 0, prior: (zeros, half), settings: OnlineNewtonSettings(beta2: 1, count: count),
            key: RandomKey(seed: 3))
        let precision = count * 0.5
        let chosen = [("dense1.weight", 1), ("dense1.weight", 6), ("dense1.bias", 2), ("dense2.weight", 0), ("dense2.weight", 7), ("dense2.bias", 1)]
        var estimates = [[Double]](repeating: [], count: chosen.count), differences = estimates
        var weights = try newton.draw()
        let step = 0.1
        for number in 0..<1_500 {
            let drawn = weights
            let slope = try gradient(drawn)
            for (place, (name, index)) in chosen.enumerated() {
                let away = try drawn.tensor(name).doubles()[index] - mean.tensor(name).doubles()[index]
                estimates[place].append(try #require(slope[name])[index] * away * precision)
                guard number < 200 else { continue }
                func moved(_ by: Double) throws -> Double {
                    var weights = drawn
                    try weights.visit { (other, tensor) throws(AccrueError) in
                        guard other == name else { return }
                        var values = try tensor.floats()
                        values[index] += Float(by)
                        tensor = try Tensor(values, shape: tensor.shape)
                    }
                    return try #require(gradient(weights)[name])[index]
                }
                differences[place].append((try moved(step) - moved(-step)) / (2 * step))
            }
            try newton.update(&weights, gradient: zeros, rate: 0)
        }
        for (place, name) in chosen.enumerated() {
            func statistics(_ values: [Double]) -> (mean: Double, square: Double) {
                let mean = values.reduce(0, +) / Double(values.count)
                return (mean, values.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(values.count * (values.count - 1)))
            }
            let a = statistics(estimates[place]), b = statistics(differences[place])
            #expect(abs(a.mean - b.mean) < 5 * (a.square + b.square).squareRoot(), "\(name): \(a.mean) and \(b.mean)")
        }
    }

    @Test("a round's work comes back from its bytes, and a version is the same whether it does or not")
    func stored() throws {
        let settings: [String: JSONValue] = ["model": ["kind": "mlp", "hidden": [6]], "epochs": 6, "batch": 20, "fisherRows": 40, "averageTail": 0.8]
        let schema = Scenario.classes(3, [2]), method = try Self.method(settings, schema), rows = try Scenario.blobs(4, 60)
        func version(throughBytes: Bool) throws -> Data {
            let key = RandomKey(seed: 6)
            func round(_ sweep: Int, _ shard: Int) -> Round {
                Round(index: 1, sweep: sweep, sweeps: 3, shard: shard, shards: 2, shardRows: 30, roundRows: 60, rowsBefore: 0, sweepKey: key)
            }
            var work = try method.begin(try method.initialState(key: key), round: round(0, 0), key: key)
            for sweep in 0..<3 {
                if throughBytes { work = try NaturalGradient.Work(bytes: work.bytes) }
                var deltas: [Weighted<NaturalGradient.Delta>] = []
                for shard in 0..<2 {
                    let part = rows.rows(shard * 30..<shard * 30 + 30), own = key.folding(sweep).folding(shard)
                    let delta = try method.fit(work, to: [part], round: round(sweep, shard), key: own).delta
                    deltas.append(Weighted(throughBytes ? try NaturalGradient.Delta(bytes: delta.bytes) : delta, rows: 30))
                }
                work = try method.merge(deltas, into: work, round: round(sweep, 0), key: key)
            }
            #expect(work.steps == 18 && work.averaged == 14)
            return try method.finish(work, round: round(0, 0), moments: [], scores: nil, key: key).bytes
        }
        #expect(try version(throughBytes: true) == version(throughBytes: false))
    }

    @Test("without a word from the rows the mean stays, and the precision is the κ-mixed one; on drift less of it stays, never below the floor")
    func memory() throws {
        let schema = Scenario.classes(3, [2])
        let round = Round(index: 2, sweep: 0, sweeps: 1, shards: 1, shardRows: 60, roundRows: 60, rowsBefore: 60, sweepKey: RandomKey(seed: 1))
        let method = try Self.method(["model": ["kind": "mlp", "hidden": [4]], "prior": ["precision": 2, "perFanIn": false], "keep": 0.5, "temperature": 1], schema)
        var state = try method.initialState(key: RandomKey(seed: 2))
        state.precision = try state.precision.map { (p) throws(AccrueError) in try p * 5 }
        func finished(hessian: Double) throws -> PrecisionState {
            var work = try method.begin(state, round: round, key: RandomKey(seed: 1))
            work.hessian = try state.mean.map { (mean) throws(AccrueError) in try .full(mean.shape, hessian) }
            return try method.finish(work, round: round, moments: [], scores: nil, key: RandomKey(seed: 1))
        }
        // P₀ = 2 + ½ (10 − 2) = 6, and 60 rows of h.
        for (hessian, precision) in [(0.0, 6.0), (0.1, 12.0), (-0.2, 0.3)] {
            let found = try finished(hessian: hessian)
            for (name, tensor) in found.precision.tensors {
                #expect(try tensor.doubles().allSatisfy { abs($0 - precision) < 1e-5 })
                #expect(try found.mean.tensor(name).bytes() == state.mean.tensor(name).bytes())
            }
        }
    }

    @Test("laplace's posterior is a prior for natural gradients, and the other way round; a mean-field one is not")
    func kinds() throws {
        func scenario(_ word: String) throws -> Scenario { try #require(Scenario.networks.first { $0.title == "IncrementalBayes, mlp, \(word)softmax" }) }
        let laplace = try scenario("laplace, "), natural = try scenario("naturalGradient, "), key = RandomKey(seed: 1)
        for (from, to) in [(laplace, natural), (natural, laplace)] {
            let made = try #require(try from.run().last), method = try to.make()
            let adopted = try method.adopt(made, into: try method.initialState(key: key), key: key)
            let (before, after) = (try Safetensors.decode(made), try Safetensors.decode(adopted))
            #expect(before.tensors == after.tensors && before.metadata["inference"] != after.metadata["inference"])
            let rows = try to.rows(3, 120)
            let run = LocalRun(pipeline: to.pipeline(), method: method, rows: rows, chunks: [0..<120], start: made)
            #expect(try run.run { (_) throws(AccrueError) in }.number == 2)
        }
        let variational = try #require(try scenario("variational, ").run().last), method = try natural.make()
        let error = #expect(throws: AccrueError.self) { try method.adopt(variational, into: try method.initialState(key: key), key: key) }
        #expect(error?.code == .invalidInput && error?.problem.contains("laplace or naturalGradient") == true)
    }

    @Test("steps that are far too long end as diverged, with a hint")
    func diverged() throws {
        let scenario = Scenario(
            title: "diverging", method: "IncrementalBayes",
            settings: [
                "model": ["kind": "mlp", "hidden": [8]], "inference": "naturalGradient", "likelihood": ["kind": "gaussian", "noisePrecision": 1e6],
                "prior": ["precision": 1e-6], "initialHessian": 1e-6, "stepMax": 1e9, "learningRate": 10, "epochs": 50, "batch": 20,
            ], schema: Scenario.regression, rows: Scenario.regressionRows)
        let error = #expect(throws: AccrueError.self) { try scenario.run() }
        #expect(error?.code == .diverged && error?.hint.contains("learning rate") == true)
    }

    @Test("what belongs to another kind of inference is refused, and values out of range with their range")
    func refused() throws {
        let schema = Scenario.classes(3, [2])
        for (settings, words) in [
            (["inference": "naturalGradient", "family": "lowRank"], ["family", "lowRank", "naturalGradient"]),
            (["inference": "naturalGradient", "family": "full"], ["family", "full", "naturalGradient"]),
            (["inference": "naturalGradient", "reservoir": ["rows": 5]], ["reservoir", "belongs to inference laplace"]),
            (["inference": "naturalGradient", "damping": 0.5], ["damping", "belongs to inference variational"]),
            (["inference": "naturalGradient", "initialScale": 0.5], ["initialScale", "belongs to inference variational"]),
            (["inference": "naturalGradient", "momentum": 1], ["momentum", "0.9999"]),
            (["inference": "naturalGradient", "hessianMomentum": 1], ["hessianMomentum", "0.99999999"]),
            (["inference": "naturalGradient", "stepMax": 0], ["stepMax"]),
            (["inference": "naturalGradient", "initialHessian": 0], ["initialHessian", "0"]),
            (["inference": "naturalGradient", "initialHessian": "fischer"], ["initialHessian", "fischer"]),
            (["inference": "naturalGradiant"], ["did you mean 'naturalGradient'"]), (["momentum": 0.5], ["momentum", "belongs to inference naturalGradient"]),
            (["inference": "variational", "initialHessian": 1], ["initialHessian", "belongs to inference naturalGradient"]),
            (["model": ["kind": "linear"], "inference": "naturalGradient", "family": "full"], ["family", "full"]),
        ] as [([String: JSONValue], [String])] {
            let error = #expect(throws: AccrueError.self) { try IncrementalBayes.make(.object(["model": ["kind": "mlp"]].merging(settings) { $1 }), schema) }
            #expect(error?.code == .invalidInput)
            let said = "\(error?.problem ?? "") \(error?.hint ?? "")"
            for word in words { #expect(said.contains(word), "\(settings)") }
        }
    }
}
