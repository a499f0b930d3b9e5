import AccrueBayes
import AccrueCore
import AccrueTensor
import Foundation
import Testing

@testable import AccrueMethods

@Suite("Forms of an online Laplace precision")
struct PrecisionFamilyTests {
    private static func laplace(_ settings: JSONValue, _ schema: Schema, outputs: Int) throws -> OnlineLaplace {
        EngineFingerprint.beginThread()
        let settings = try IncrementalBayes.Settings(settings, schema: schema)
        let network = try settings.model.network(inputShape: Design.inputShape(schema), outputs: outputs)
        return try OnlineLaplace(
            model: IncrementalModel(settings: settings, schema: schema, network: network, design: try Design(schema: schema, network: network, likelihood: settings.likelihood)))
    }

    private static func round(shard: Int, of shards: Int, rows: Int, all: Int) -> Round {
        Round(index: 1, sweep: 0, sweeps: 1, shard: shard, shards: shards, shardRows: rows, roundRows: all, rowsBefore: 0, sweepKey: RandomKey(seed: 1))
    }

    /// The state after a round's statistics over equal shards, without any step of training.
    private static func absorbed(_ laplace: OnlineLaplace, _ rows: Rows, shards: Int = 1) throws -> OnlineLaplace.State {
        let key = RandomKey(seed: 3), each = rows.count / shards
        let first = round(shard: 0, of: shards, rows: each, all: rows.count)
        let work = try laplace.begin(try laplace.initialState(key: key), round: first, key: key)
        var moments: [OnlineLaplace.Fisher] = []
        for shard in 0..<shards {
            let part = rows.rows(shard * each..<(shard + 1) * each), round = round(shard: shard, of: shards, rows: each, all: rows.count)
            if let fisher = try laplace.statistics(of: work, on: [part], round: round, key: key.folding(shard)) { moments.append(fisher) }
        }
        return try laplace.finish(work, round: first, moments: moments, scores: nil, key: key)
    }

    /// Λ as its products with unit vectors, over the weights of a network in the order of their names.
    private static func dense(_ state: OnlineLaplace.State, _ family: any PrecisionFamily) throws -> [[Double]] {
        var rows: [[Double]] = []
        for (name, tensor) in state.precision.tensors {
            for element in 0..<tensor.elementCount {
                let unit = NamedTensors(
                    try state.precision.tensors.map { other in
                        var values = [Float](repeating: 0, count: other.tensor.elementCount)
                        if other.name == name { values[element] = 1 }
                        return (other.name, try Tensor(values, shape: other.tensor.shape))
                    })
                let coupled = try family.product(state.coupling, unit)
                rows.append(
                    try state.precision.tensors.flatMap { other -> [Double] in
                        let own = try (other.tensor * (try unit.tensor(other.name))).doubles()
                        guard coupled.contains(other.name) else { return own }
                        return zip(own, try coupled.tensor(other.name).doubles()).map { $0 + $1 }
                    })
            }
        }
        return rows
    }

    private static func golden(_ family: String) -> JSONValue {
        [
            "model": ["kind": "linear", "bias": false], "likelihood": ["kind": "gaussian", "noisePrecision": 4], "family": .string(family), "fisherRows": 4,
        ]
    }

    private static let goldenRows: @Sendable () throws -> Rows = {
        try Rows(
            ["inputs": TensorBytes([1, 0, 1, 1, 1, 2, 1, 3] as [Float], shape: [4, 2]), "targets": TensorBytes([1, 2, 2, 4] as [Float], shape: [4])],
            schema: Scenario.regression, while: "testing")
    }

    @Test("the golden linear case has precision [[17, 24], [24, 57]] in the families that can hold it, for any shards",
        arguments: ["full", "lastLayer", "lowRank", "kronecker"], [1, 2, 4])
    func golden(family: String, shards: Int) throws {
        let laplace = try Self.laplace(Self.golden(family), Scenario.regression, outputs: 1)
        let state = try Self.absorbed(laplace, try Self.goldenRows(), shards: shards)
        let found = try Self.dense(state, try laplace.model.precisionFamily())
        for (row, truth) in zip(found, [[17.0, 24], [24, 57]]) { for (a, b) in zip(row, truth) { #expect(abs(a - b) < 1e-4) } }
    }

    @Test("the Fisher information counts λ times, the first prior once: the golden case", arguments: ["full", "lowRank", "kronecker"])
    func goldenScaled(family: String) throws {
        let settings = try #require(Self.golden(family).object).merging(["fisherScale": 2.5, "temperature": 0.5]) { $1 }
        let laplace = try Self.laplace(.object(settings), Scenario.regression, outputs: 1)
        let found = try Self.dense(try Self.absorbed(laplace, try Self.goldenRows()), try laplace.model.precisionFamily())
        // I + λ/T (P − I), P that of λ = T = 1.
        for (row, truth) in zip(found, [[81.0, 120], [120, 281]]) { for (a, b) in zip(row, truth) { #expect(abs(a - b) < 1e-3) } }
    }

    @Test("kept rows take the place of as much of the past's precision: the golden case in two parts, for any share and any shards",
        arguments: [0, 0.5, 1], [1, 2])
    func goldenKeptRows(share: Double, shards: Int) throws {
        let settings = try #require(Self.golden("full").object).merging(["reservoir": ["rows": 4, "share": .number(share)]]) { $1 }
        let laplace = try Self.laplace(.object(settings), Scenario.regression, outputs: 1), key = RandomKey(seed: 3), each = 2 / shards
        var state = try laplace.initialState(key: key)
        for part in 0..<2 {
            let rows = try Self.goldenRows().rows(2 * part..<2 * part + 2)
            func round(_ shard: Int) -> Round {
                Round(index: part + 1, sweep: 0, sweeps: 1, shard: shard, shards: shards, shardRows: each, roundRows: 2, rowsBefore: 2 * part, sweepKey: RandomKey(seed: 1))
            }
            var work = try laplace.begin(state, round: round(0), key: key)
            work.offered = try Reservoir(of: [rows], capacity: 4, key: key)
            var moments: [OnlineLaplace.Fisher] = []
            for shard in 0..<shards {
                moments.append(try #require(try laplace.statistics(of: work, on: [rows.rows(shard * each..<(shard + 1) * each)], round: round(shard), key: key)))
            }
            state = try laplace.finish(work, round: round(0), moments: moments, scores: nil, key: key)
        }
        let found = try Self.dense(state, try laplace.model.precisionFamily())
        for (row, truth) in zip(found, [[17.0, 24], [24, 57]]) { for (a, b) in zip(row, truth) { #expect(abs(a - b) < 1e-4) } }
    }

    @Test("draws have the covariance of the golden case", arguments: ["full", "lowRank", "kronecker"])
    func goldenDraws(family: String) throws {
        let laplace = try Self.laplace(Self.golden(family), Scenario.regression, outputs: 1)
        let state = try Self.absorbed(laplace, try Self.goldenRows())
        let draws = try #require(try laplace.model.precisionFamily().draws(state.precision, state.coupling))
        let covariance = [[0.145038168, -0.061068702], [-0.061068702, 0.043256997]], count = 20_000
        var sums = [[0.0, 0.0], [0.0, 0.0]]
        for index in 0..<count {
            let draw = try draws(RandomKey(seed: 4).folding(index)).tensor("dense.weight").doubles()
            for i in 0..<2 { for j in 0..<2 { sums[i][j] += draw[i] * draw[j] / Double(count) } }
        }
        for i in 0..<2 {
            for j in 0..<2 {
                // Variance of a product of two Gaussians: Σᵢᵢ Σⱼⱼ + Σᵢⱼ².
                let error = ((covariance[i][i] * covariance[j][j] + covariance[i][j] * covariance[i][j]) / Double(count)).squareRoot()
                #expect(abs(sums[i][j] - covariance[i][j]) < 4 * error)
            }
        }
    }

    @Test("a block whose entries were rounded to F32 has draws though its own numbers have no factor; one that never was a precision is refused")
    func roundedBlock() throws {
        // Λ = I + a v vᵀ: the rounding of its entries, some 0.3 each, outweighs its smallest eigenvalues, 1.
        let size = 200, a = 1e9 / Double(size)
        let schema = Schema([TensorSchema("inputs", role: .input, dtype: .f32, shape: [size]), TensorSchema("targets", role: .target, dtype: .f32, shape: [])])
        let laplace = try Self.laplace(Self.golden("full"), schema, outputs: 1), family = try laplace.model.precisionFamily()
        let v = try RandomKey(seed: 8).normal([size]).doubles()
        func tree(_ name: String, _ values: [Float], _ shape: [Int]) throws -> NamedTensors { NamedTensors([(name, try Tensor(values, shape: shape))]) }
        func coupling(_ entry: (Int, Int) -> Double) throws -> NamedTensors {
            try tree("full", (0..<size * size).map { $0 / size == $0 % size ? 0 : Float(entry($0 / size, $0 % size)) }, [1, size, size])
        }
        let diagonal = try tree("dense.weight", v.map { Float(1 + a * $0 * $0) }, [1, size])
        let blocks = try (try coupling { a * v[$0] * v[$1] }).tensor("full").cast(to: .f64)
        let own = try Tensor(v.map { Double(Float(1 + a * $0 * $0)) }, shape: [size, 1]), unit = try Tensor(Array(0..<size)).oneHot(size).cast(to: .f64)
        #expect(throws: AccrueError.self) { try (try blocks + (try own * unit)).cholesky(while: "testing") }
        let draws = try #require(try family.draws(diagonal, try coupling { a * v[$0] * v[$1] }))
        let length = v.reduce(0) { $0 + $1 * $1 }
        for index in 0..<20 {
            let draw = try draws(RandomKey(seed: 9).folding(index)).tensor("dense.weight").doubles()
            // Along v the standard deviation of vᵀw is below 1/√a: five of them.
            #expect(draw.allSatisfy { abs($0) < 6 } && abs(zip(draw, v).reduce(0) { $0 + $1.0 * $1.1 }) < 5 / a.squareRoot() * max(1, length / Double(size)))
        }
        #expect { try family.draws(diagonal, try coupling { 2 * a * v[$0] * v[$1] }) } throws: { ($0 as? AccrueError)?.code == .diverged }
    }

    @Test("answers to few rows, of large layers' drawn outputs, are distributed as those to many, of drawn weights")
    func fewRows() throws {
        let inputs = 300, draws = 1_000
        let schema = Schema([TensorSchema("inputs", role: .input, dtype: .f32, shape: [inputs]), TensorSchema("targets", role: .target, dtype: .f32, shape: [])])
        let settings: JSONValue = ["model": ["kind": "mlp", "hidden": [64]], "likelihood": ["kind": "gaussian", "noisePrecision": 4]]
        let model = try Self.laplace(settings, schema, outputs: 1).model, key = RandomKey(seed: 12)
        let mean = try model.initialWeights(key: key)
        let posterior = try model.posterior(
            mean: mean, deviation: try mean.map { (weight) throws(AccrueError) in try .full(weight.shape, 0.05) }, scale: 1.5, inference: "laplace")
        let rows = try key.folding("rows").normal([5, inputs])
        func answer(_ rows: Tensor) throws -> (mean: [Double], deviation: [Double]) {
            let query = QueryBytes(verb: "predict", header: ["draws": .integer(draws)], tensors: ["inputs": try rows.bytes()])
            let tensors = try posterior.answer(query, key: key).tensors
            return (try #require(tensors["mean"]).doubles(), try #require(tensors["epistemic"]).doubles())
        }
        let many = try answer(rows)
        for row in 0..<4 {
            let few = try answer(try rows.rows(row..<row + 1))
            #expect(few.mean[0] != many.mean[row])
            // Standard errors over n draws: σ/√n of a mean, about σ/√(2n) of a standard deviation; √2 of each for the difference; five of them.
            #expect(abs(few.mean[0] - many.mean[row]) < 5 * many.deviation[row] * (2 / Double(draws)).squareRoot())
            #expect(abs(few.deviation[0] / many.deviation[row] - 1) < 5 / Double(draws).squareRoot())
        }
        // A row is answered alike beside others, as long as they are few.
        #expect(try answer(try rows.rows(0..<4)).mean[2] == (try answer(try rows.rows(2..<3)).mean[0]))
    }

    @Test("Kronecker factors are those of all weights together where a layer sees one row", arguments: [3, 4])
    func oneRow(width: Int) throws {
        // A convolution over 3 × 3 pictures has one position, so that one row has one outer product; over 4 × 4 its factors are sums over four.
        EngineFingerprint.beginThread()
        let network = Network(layers: [
            .affine(.init("first", .convolution(kernel: 3, padding: 0), inputs: 2, outputs: 3)), .relu, .flatten,
            .affine(.init("second", .dense, inputs: 3 * (width - 2) * (width - 2), outputs: 2)),
        ], inputShape: [2, width, width])
        let key = RandomKey(seed: 6), weights = try network.initialWeights(key: key), input = try key.folding("input").normal([1, 2, width, width])
        let direction = try key.folding("direction").normal([1, 2])
        func function(_ outputs: Tensor) throws(AccrueError) -> Tensor { try (outputs * direction).sum() }
        let factors = try network.kroneckerFactors(weights, inputs: input, of: function), rows = try network.rowGradients(weights, inputs: input, of: function)
        for layer in network.affineLayers where layer.name == "second" || width == 3 {
            let found = try #require(factors[layer.name])
            let inputs = try found.inputs.doubles(), slopes = try found.slopes.doubles(), into = layer.fanIn + 1
            let weight = try #require(rows[layer.weight]).rows().doubles(), bias = try #require(rows[layer.bias]).rows().doubles()
            func gradient(_ output: Int, _ number: Int) -> Double { number == layer.fanIn ? bias[output] : weight[output * layer.fanIn + number] }
            for a in 0..<layer.outputs * into {
                for b in 0..<layer.outputs * into {
                    let truth = gradient(a / into, a % into) * gradient(b / into, b % into)
                    #expect(abs(slopes[a / into * layer.outputs + b / into] * inputs[a % into * into + b % into] - truth) < 1e-4)
                }
            }
        }
        guard width == 4, let found = factors["first"] else { return }
        let pixels = try input.doubles()
        let patches = (0..<4).map { (position: Int) -> [Double] in
            (0..<18).map { (place: Int) -> Double in
                let row = position / 2 + place % 9 / 3, column = position % 2 + place % 3
                return pixels[place / 9 * 16 + row * 4 + column]
            } + [1]
        }
        let inputs = try found.inputs.doubles()
        for i in 0..<19 {
            for j in 0..<19 {
                let truth = patches.reduce(0) { $0 + $1[i] * $1[j] }
                #expect(abs(inputs[i * 19 + j] - truth) < 1e-4)
            }
        }
    }

    @Test("rounds that are alike add to the Kronecker product of all of them, and draws have its covariance")
    func kroneckerSums() throws {
        let laplace = try Self.laplace(
            ["model": ["kind": "linear"], "likelihood": ["kind": "gaussian", "noisePrecision": 2], "family": "kronecker", "prior": ["precision": 0.5], "fisherRows": 50],
            Scenario.regression, outputs: 1)
        let form = try laplace.model.precisionFamily()
        let inputs = try RandomKey(seed: 2).normal([50, 2])
        let rows = try Rows(
            ["inputs": try inputs.bytes(), "targets": TensorBytes([Float](repeating: 0, count: 50), shape: [50])], schema: Scenario.regression, while: "testing")
        let once = try Self.absorbed(laplace, rows)
        let twice = try form.sum([once.coupling, once.coupling]).coupling
        // One output: Λ = P₀ + 2 Σ x xᵀ of the inputs and the 1 beside them, for the weights and the bias together.
        let x = try inputs.doubles(), names = ["dense.weight", "dense.bias"]
        var truth = SymmetricMatrix(size: 3, elements: [Double](repeating: 0, count: 9))
        for row in 0..<50 {
            let all = [x[2 * row], x[2 * row + 1], 1]
            for i in 0..<3 { for j in 0..<3 { truth[i, j] += 2 * 2 * all[i] * all[j] } }
        }
        for i in 0..<3 { truth[i, i] += 0.5 }
        let covariance = try truth.cholesky(while: "testing").inverse, count = 20_000
        let draws = try #require(try form.draws(once.precision, twice))
        var sums = SymmetricMatrix(size: 3, elements: [Double](repeating: 0, count: 9))
        for index in 0..<count {
            let draw = try draws(RandomKey(seed: 4).folding(index)), line = try names.flatMap { try draw.tensor($0).doubles() }
            for i in 0..<3 { for j in 0..<3 { sums[i, j] += line[i] * line[j] / Double(count) } }
        }
        for i in 0..<3 {
            for j in 0..<3 {
                let error = ((covariance[i, i] * covariance[j, j] + covariance[i, j] * covariance[i, j]) / Double(count)).squareRoot()
                #expect(abs(sums[i, j] - covariance[i, j]) < 4 * error)
            }
        }
    }

    @Test("a precision that is not positive definite ends as diverged, naming the block and the pivot")
    func notPositive() throws {
        EngineFingerprint.beginThread()
        let blocks = try Tensor([4, 0, 0, 1, 1, 2, 2, 1] as [Double], shape: [2, 2, 2])
        #expect { _ = try blocks.cholesky(while: "testing") } throws: {
            let error = $0 as? AccrueError
            return error?.code == .diverged && error?.problem.contains("pivot 1 of block 1") == true
        }
        let lower = try Tensor([4, 2, 2, 5] as [Double], shape: [2, 2]).cholesky(while: "testing")
        #expect(try lower.doubles() == [2, 0, 1, 2])
        #expect(try lower.solvingTransposed(try Tensor([4, 2] as [Double], shape: [2, 1])).doubles() == [1.5, 1])
    }

    @Test("the information of full is that of softmax outputs in closed form")
    func softmaxInformation() throws {
        let laplace = try Self.laplace(["model": ["kind": "linear", "bias": false], "family": "full", "fisherRows": 6], Scenario.classes(3, [2]), outputs: 3)
        let rows = try Scenario.blobs(1, 6), state = try Self.absorbed(laplace, rows)
        // A linear network starts at zero, where every class has probability ⅓: F = Σ (diag p − p pᵀ) ⊗ x xᵀ.
        let x = try #require(rows.tensors["inputs"]).doubles(), found = try Self.dense(state, try laplace.model.precisionFamily())
        for a in 0..<6 {
            for b in 0..<6 {
                let share = (a / 2 == b / 2 ? 1.0 / 3 : 0) - 1.0 / 9
                let truth = (0..<6).reduce(a == b ? 1.0 : 0) { $0 + share * x[2 * $1 + a % 2] * x[2 * $1 + b % 2] }
                #expect(abs(found[a][b] - truth) < 1e-5 * max(1, abs(truth)))
            }
        }
    }

    @Test("without convolutions, channel is diagonal, bit for bit")
    func channelOfDense() throws {
        let diagonal = try Self.absorbed(try Self.laplace(Self.golden("diagonal"), Scenario.regression, outputs: 1), try Self.goldenRows())
        let channel = try Self.absorbed(try Self.laplace(Self.golden("channel"), Scenario.regression, outputs: 1), try Self.goldenRows())
        #expect(diagonal.stored.encode() == channel.stored.encode())
    }

    @Test("channel and low rank have the diagonal that independent weights have, of the same labels", arguments: ["channel", "lowRank"], [1, 2])
    func diagonals(family: String, shards: Int) throws {
        func state(_ family: String) throws -> (OnlineLaplace.State, any PrecisionFamily) {
            let laplace = try Self.laplace(
                ["model": ["kind": "conv3", "widths": [2, 2, 2]], "family": .string(family), "fisherRows": 300], Scenario.classes(2, [1, 8, 8]), outputs: 2)
            return (try Self.absorbed(laplace, try Scenario.labelled(1, 300, classes: 2, shape: [1, 8, 8], spread: 0.7), shards: shards), try laplace.model.precisionFamily())
        }
        let (independent, _) = try state("diagonal"), (coupled, form) = try state(family)
        let truth = try independent.precision.tensors.flatMap { try $0.tensor.doubles() }, found = try Self.dense(coupled, form)
        for (index, value) in truth.enumerated() { #expect(abs(found[index][index] - value) < 1e-4 * value) }
        // And it does couple weights, symmetrically: but for the rounding of some ten products in Float32, none of which exceeds the diagonal's.
        #expect(found.indices.contains { row in found.indices.contains { $0 != row && abs(found[row][$0]) > 1 } })
        for row in found.indices {
            for column in 0..<row { #expect(abs(found[row][column] - found[column][row]) < 1e-5 * (found[row][row] * found[column][column]).squareRoot()) }
        }
    }

    @Test("the share of C in the prior's gradient is that of ½ xᵀ C x, by finite differences", arguments: ["channel", "lowRank", "lastLayer", "full", "kronecker"])
    func priorGradient(family: String) throws {
        let laplace = try Self.laplace(
            ["model": ["kind": "conv3", "widths": [2, 2, 2]], "family": .string(family), "fisherRows": 60], Scenario.classes(2, [1, 8, 8]), outputs: 2)
        let state = try Self.absorbed(laplace, try Scenario.labelled(1, 60, classes: 2, shape: [1, 8, 8], spread: 0.7))
        let form = try laplace.model.precisionFamily(), key = RandomKey(seed: 8)
        func random(_ name: String) throws -> NamedTensors {
            NamedTensors(try state.mean.tensors.map { ($0.name, try key.folding(name).folding($0.name).normal($0.tensor.shape)) })
        }
        func inner(_ a: NamedTensors, _ b: NamedTensors) throws -> Double {
            try a.tensors.reduce(0) { sum, part in zip(try part.tensor.doubles(), try b.tensor(part.name).doubles()).reduce(sum) { $0 + $1.0 * $1.1 } }
        }
        func half(_ x: NamedTensors) throws -> Double { 0.5 * (try inner(try form.product(state.coupling, x), x)) }
        let x = try random("x"), along = try random("along"), step = 0.5
        func moved(_ by: Double) throws -> NamedTensors { try x.zip(along) { (x, d) throws(AccrueError) in try x + (try d[0] * by) } }
        // A quadratic: central differences are exact at any step.
        let difference = (try half(try moved(step)) - (try half(try moved(-step)))) / (2 * step)
        let slope = try inner(try form.product(state.coupling, x), along)
        #expect(abs(difference - slope) < 1e-3 * max(1, abs(slope)))
        #expect(abs(slope) > 0)
    }

    @Test("eigenvectors solve, in order, with a fixed sign")
    func eigen() throws {
        let size = 12, noise = try RandomKey(seed: 5).normal([size, size], dtype: .f64)
        let matrix = SymmetricMatrix(size: size, elements: try noise.matmul(try noise.transposed()).doubles())
        let (values, vectors) = matrix.eigen()
        #expect(values == values.sorted(by: >))
        for (value, vector) in zip(values, vectors) {
            for (a, b) in zip(matrix.times(vector), vector) { #expect(abs(a - value * b) < 1e-12 * values[0]) }
            #expect((vector.max { abs($0) < abs($1) } ?? 0) > 0)
        }
    }

    @Test("a rank out of range or without low rank, and blocks that are too large, are refused by name")
    func refused() throws {
        let schema = Scenario.classes(3, [2])
        for (settings, word) in [
            (["model": ["kind": "mlp"], "family": "lowRank", "rank": 65] as JSONValue, "rank"), (["model": ["kind": "mlp"], "rank": 4], "rank"),
            (["model": ["kind": "mlp", "hidden": [9_000]], "family": "full"], "family"), (["model": ["kind": "mlp", "hidden": [3_000]], "family": "lastLayer"], "9003"),
            (["model": ["kind": "mlp", "hidden": [5_000]], "family": "kronecker"], "5000 out"),
            (["model": ["kind": "mlp"], "family": "channel", "inference": "variational"], "family"),
        ] {
            let error = #expect(throws: AccrueError.self) { _ = try IncrementalBayes.make(settings, schema) }
            #expect(error?.problem.contains(word) == true)
        }
    }
}
