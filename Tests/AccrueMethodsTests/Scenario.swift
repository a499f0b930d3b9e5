import AccrueCore
import AccrueMethods
import AccrueTensor
import Foundation

/// A small problem for one method and one choice of settings: every law must hold for each.
struct Scenario: Sendable, CustomStringConvertible {
    var title: String
    var method: String
    var settings: JSONValue
    var schema: Schema
    /// `count` rows of this seed.
    var rows: @Sendable (_ seed: UInt64, _ count: Int) throws -> Rows
    var description: String { title }

    func pipeline(shards: Int = 2, sweeps: Int = 1, chunks: Int = 1) -> PipelineDeclaration {
        PipelineDeclaration(
            name: "scenario", method: method, seed: 5, schema: schema, settings: settings, round: .init(chunks: chunks), shards: shards, sweeps: sweeps)
    }

    func make() throws -> any OpaqueMethod { try MethodCatalog.standard.make(pipeline()) }

    /// All versions' states of a run over `count` rows in chunks.
    func run(rows count: Int = 240, chunk: Int = 120, shards: Int = 2, sweeps: Int = 1) throws -> [Data] {
        let rows = try rows(1, count), count = rows.count
        let chunks = stride(from: 0, to: count, by: chunk).map { $0..<min(count, $0 + chunk) }
        var states: [Data] = []
        let run = LocalRun(pipeline: pipeline(shards: shards, sweeps: sweeps), method: try make(), rows: rows, chunks: chunks)
        _ = try run.run { (version) throws(AccrueError) in states.append(version.state) }
        return states
    }

    static let all: [Scenario] = linear + networks

    static let linear: [Scenario] = ["full", "diagonal"].map { family in
        Scenario(
            title: "IncrementalBayes, linear, \(family)", method: "IncrementalBayes",
            settings: ["model": ["kind": "linear"], "likelihood": ["kind": "gaussian", "noisePrecision": 4], "inference": "variational", "family": .string(family)],
            schema: regression, rows: regressionRows)
    }

    static let networks: [Scenario] = [
        Scenario(
            title: "IncrementalBayes, mlp, laplace, softmax", method: "IncrementalBayes",
            settings: ["model": ["kind": "mlp", "hidden": [16]], "epochs": 8, "batch": 20, "fisherRows": 60], schema: classes(3, [2]), rows: blobs),
        Scenario(
            title: "IncrementalBayes, mlp, laplace, lastLayer", method: "IncrementalBayes",
            settings: ["model": ["kind": "mlp", "hidden": [16]], "family": "lastLayer", "epochs": 8, "batch": 20, "fisherRows": 60], schema: classes(3, [2]), rows: blobs),
        Scenario(
            title: "IncrementalBayes, mlp, laplace, kronecker", method: "IncrementalBayes",
            settings: ["model": ["kind": "mlp", "hidden": [16]], "family": "kronecker", "epochs": 8, "batch": 20, "fisherRows": 60], schema: classes(3, [2]), rows: blobs),
        Scenario(
            title: "IncrementalBayes, mlp, laplace, lowRank", method: "IncrementalBayes",
            settings: ["model": ["kind": "mlp", "hidden": [16]], "family": "lowRank", "rank": 4, "epochs": 8, "batch": 20, "fisherRows": 60],
            schema: classes(3, [2]), rows: blobs),
        Scenario(
            title: "IncrementalBayes, mlp, laplace, full, learned noise", method: "IncrementalBayes",
            settings: ["model": ["kind": "mlp", "hidden": [8]], "family": "full", "epochs": 20, "batch": 20, "learningRate": 0.01], schema: regression,
            rows: regressionRows),
        Scenario(
            title: "IncrementalBayes, conv3, laplace, channel", method: "IncrementalBayes",
            settings: [
                "model": ["kind": "conv3", "widths": [4, 4, 4]], "family": "channel", "epochs": 6, "batch": 20, "learningRate": 0.01, "fisherRows": 40,
            ], schema: classes(2, [1, 8, 8]), rows: { try labelled($0, $1, classes: 2, shape: [1, 8, 8], spread: 0.7) }),
        Scenario(
            title: "IncrementalBayes, mlp, laplace, kept rows", method: "IncrementalBayes",
            settings: [
                "model": ["kind": "mlp", "hidden": [16]], "epochs": 8, "batch": 20, "fisherRows": 60, "reservoir": ["rows": 30, "share": 0.5], "keepOnDrift": 0.5,
                "drawScale": "fitted",
            ], schema: classes(3, [2]), rows: blobs),
        Scenario(
            title: "IncrementalBayes, mlp, laplace, label shift and kept rows", method: "IncrementalBayes",
            settings: [
                "model": ["kind": "mlp", "hidden": [16]], "family": "kronecker", "epochs": 8, "batch": 20, "fisherRows": 60, "labelShift": true,
                "reservoir": ["rows": 30, "share": 0.5], "keep": 0.5,
            ], schema: classes(3, [2]), rows: blobs),
        Scenario(
            title: "IncrementalBayes, mlp, variational, softmax", method: "IncrementalBayes",
            settings: ["model": ["kind": "mlp", "hidden": [16]], "inference": "variational", "epochs": 20, "batch": 20, "learningRate": 0.01], schema: classes(3, [2]),
            rows: blobs),
        Scenario(
            title: "IncrementalBayes, linear, laplace, bernoulli", method: "IncrementalBayes",
            settings: ["model": ["kind": "linear"], "likelihood": ["kind": "bernoulli"], "epochs": 10, "batch": 20, "learningRate": 0.05], schema: classes(2, [2]),
            rows: { try labelled($0, $1, classes: 2, shape: [2], spread: 1) }),
        Scenario(
            title: "IncrementalBayes, mlp, laplace, learned noise", method: "IncrementalBayes",
            settings: ["model": ["kind": "mlp", "hidden": [16]], "epochs": 20, "batch": 20, "learningRate": 0.01], schema: regression, rows: regressionRows),
        Scenario(
            title: "IncrementalBayes, mlp, variational, learned noise", method: "IncrementalBayes",
            settings: ["model": ["kind": "mlp", "hidden": [16]], "inference": "variational", "epochs": 20, "batch": 20, "learningRate": 0.01], schema: regression,
            rows: regressionRows),
        Scenario(
            title: "IncrementalBayes, mlp, naturalGradient, softmax", method: "IncrementalBayes",
            settings: [
                "model": ["kind": "mlp", "hidden": [16]], "inference": "naturalGradient", "epochs": 8, "batch": 20, "learningRate": 0.1,
                "stepMax": 0.03, "fisherRows": 60, "keepOnDrift": 0.5,
            ], schema: classes(3, [2]), rows: blobs),
        Scenario(
            title: "IncrementalBayes, mlp, naturalGradient, learned noise", method: "IncrementalBayes",
            settings: [
                "model": ["kind": "mlp", "hidden": [16]], "inference": "naturalGradient", "epochs": 20, "batch": 20, "learningRate": 0.1,
                "stepMax": 0.03, "drawScale": "fitted",
            ], schema: regression, rows: regressionRows),
        Scenario(
            title: "IncrementalBayes, conv3, naturalGradient", method: "IncrementalBayes",
            settings: [
                "model": ["kind": "conv3", "widths": [4, 4, 4]], "inference": "naturalGradient", "epochs": 6, "batch": 20, "learningRate": 0.1,
                "stepMax": 0.03, "fisherRows": 40,
            ], schema: classes(2, [1, 8, 8]), rows: { try labelled($0, $1, classes: 2, shape: [1, 8, 8], spread: 0.7) }),
        Scenario(
            title: "IncrementalBayes, conv3, laplace", method: "IncrementalBayes",
            settings: ["model": ["kind": "conv3", "widths": [4, 4, 4]], "epochs": 6, "batch": 20, "learningRate": 0.01, "fisherRows": 40], schema: classes(2, [1, 8, 8]),
            rows: { try labelled($0, $1, classes: 2, shape: [1, 8, 8], spread: 0.7) }),
        Scenario(
            title: "IncrementalBayes, lenet5, variational", method: "IncrementalBayes",
            settings: ["model": ["kind": "lenet5"], "inference": "variational", "epochs": 2, "batch": 20], schema: classes(2, [16, 16]),
            rows: { try labelled($0, min($1, 80), classes: 2, shape: [16, 16], spread: 0.7) }),
        Scenario(
            title: "VariationalDropout, mlp, ard", method: "VariationalDropout",
            settings: ["model": ["kind": "mlp", "hidden": [16]], "epochs": 12, "batch": 20, "learningRate": 0.01], schema: classes(3, [2]), rows: blobs),
        Scenario(
            title: "VariationalDropout, mlp, hierarchical, groups, learned noise", method: "VariationalDropout",
            settings: [
                "model": ["kind": "mlp", "hidden": [16]], "penalty": "hierarchical", "gamma": ["shape": 0.25, "rate": 1e-6, "estimator": "modeOfLogPrecision"],
                "group": "output", "epochs": 20, "batch": 20, "learningRate": 0.01, "keep": 0.9,
            ], schema: regression, rows: regressionRows),
        Scenario(
            title: "VariationalDropout, mlp, ard, kept rows", method: "VariationalDropout",
            settings: ["model": ["kind": "mlp", "hidden": [16]], "epochs": 12, "batch": 20, "learningRate": 0.01, "reservoir": ["rows": 30, "share": 0.7]],
            schema: classes(3, [2]), rows: blobs),
        Scenario(
            title: "VariationalDropout, linear, closed form", method: "VariationalDropout",
            settings: ["model": ["kind": "linear"], "likelihood": ["kind": "gaussian", "noisePrecision": 4], "epochs": 10, "batch": 20, "learningRate": 0.05],
            schema: regression, rows: regressionRows),
        Scenario(
            title: "VariationalDropout, conv3, log-uniform, noisy curvature", method: "VariationalDropout",
            settings: [
                "model": ["kind": "conv3", "widths": [4, 4, 4]], "penalty": "variationalDropout", "curvature": "noisy", "epochs": 6, "batch": 20, "learningRate": 0.01,
            ], schema: classes(2, [1, 8, 8]), rows: { try labelled($0, $1, classes: 2, shape: [1, 8, 8], spread: 0.7) }),
        Scenario(
            title: "StochasticBatchNorm, mlp", method: "StochasticBatchNorm",
            settings: ["model": ["kind": "mlp", "hidden": [16], "batchNorm": true], "epochs": 10, "batch": 20, "learningRate": 0.01], schema: classes(3, [2]), rows: blobs),
        Scenario(
            title: "StochasticBatchNorm, conv3, dropout", method: "StochasticBatchNorm",
            settings: [
                "model": ["kind": "conv3", "widths": [4, 4, 4], "batchNorm": true], "epochs": 8, "batch": 20, "learningRate": 0.01, "dropout": 0.1, "drawn": "convolutional",
                "passes": 2,
            ], schema: classes(2, [1, 8, 8]), rows: { try labelled($0, $1, classes: 2, shape: [1, 8, 8], spread: 0.7) }),
        Scenario(
            title: "StochasticBatchNorm, mlp, learned noise", method: "StochasticBatchNorm",
            settings: ["model": ["kind": "mlp", "hidden": [16], "batchNorm": true], "epochs": 20, "batch": 20, "learningRate": 0.01], schema: regression,
            rows: regressionRows),
        Scenario(
            title: "DynamicRouting, soft", method: "DynamicRouting",
            settings: [
                "model": ["channels": [4, 6], "units": [2, 2], "embedding": 4, "hidden": 4], "epochs": 8, "batch": 20, "learningRate": 0.02, "augment": ["pad": 1],
            ], schema: classes(2, [1, 8, 8]), rows: { try labelled($0, $1, classes: 2, shape: [1, 8, 8], spread: 0.7) }),
        Scenario(
            title: "DynamicRouting, straight-through, skip, drawn routes", method: "DynamicRouting",
            settings: [
                "model": ["channels": [4], "units": [2], "steps": [3], "skip": true, "controller": "gru", "shared": false, "embedding": 4, "hidden": 4],
                "routes": "straightThrough", "evaluation": "gumbel", "penalties": ["cost": 0.01, "entropy": 0.01], "epochs": 8, "batch": 20, "learningRate": 0.02,
            ], schema: classes(2, [8, 8]), rows: { try labelled($0, $1, classes: 2, shape: [8, 8], spread: 0.7) }),
        Scenario(
            title: "DynamicRouting, fixed", method: "DynamicRouting",
            settings: ["model": ["channels": [4, 6], "units": [2, 1]], "routes": "fixed", "epochs": 6, "batch": 20, "learningRate": 0.02], schema: classes(2, [1, 8, 8]),
            rows: { try labelled($0, $1, classes: 2, shape: [1, 8, 8], spread: 0.7) }),
        Scenario(
            title: "VarianceNetwork, mlp", method: "VarianceNetwork",
            settings: ["model": ["kind": "mlp", "hidden": [16, 16]], "layers": ["dense2"], "epochs": 30, "batch": 20, "learningRate": 0.01], schema: classes(3, [2]), rows: blobs),
        Scenario(
            title: "VarianceNetwork, conv3 with batch norm", method: "VarianceNetwork",
            settings: [
                "model": ["kind": "conv3", "widths": [4, 8, 8], "batchNorm": true], "layers": ["conv3"], "epochs": 20, "batch": 20, "learningRate": 0.01,
            ], schema: classes(2, [1, 8, 8]), rows: { try labelled($0, $1, classes: 2, shape: [1, 8, 8], spread: 0.5) }),
        Scenario(
            title: "VarianceNetwork, mlp, dropout", method: "VarianceNetwork",
            settings: ["model": ["kind": "mlp", "hidden": [16]], "layers": ["dense1"], "noise": "dropout", "rate": 0.2, "epochs": 10, "batch": 20, "learningRate": 0.01],
            schema: classes(3, [2]), rows: blobs),
        Scenario(
            title: "WeightAveraging, mlp", method: "WeightAveraging",
            settings: ["model": ["kind": "mlp", "hidden": [16]], "epochs": 8, "batch": 20, "collectEvery": 4, "window": 30], schema: classes(3, [2]), rows: blobs),
        Scenario(
            title: "WeightAveraging, conv3 with batch norm", method: "WeightAveraging",
            settings: ["model": ["kind": "conv3", "widths": [4, 4, 4], "batchNorm": true], "epochs": 6, "batch": 20, "collectEvery": 2], schema: classes(2, [1, 8, 8]),
            rows: { try labelled($0, $1, classes: 2, shape: [1, 8, 8], spread: 0.7) }),
        Scenario(
            title: "WeightAveraging, mlp, swagDiagonal", method: "WeightAveraging",
            settings: ["model": ["kind": "mlp", "hidden": [16]], "posterior": "swagDiagonal", "epochs": 8, "batch": 20, "collectEvery": 4], schema: classes(3, [2]),
            rows: blobs),
        Scenario(
            title: "WeightAveraging, mlp, swag", method: "WeightAveraging",
            settings: [
                "model": ["kind": "mlp", "hidden": [16]], "posterior": "swag", "rank": 6, "epochs": 8, "batch": 20, "collectEvery": 4, "window": 30, "drawScale": 0.7,
            ], schema: classes(3, [2]), rows: blobs),
        Scenario(
            title: "WeightAveraging, linear, swag, learned noise", method: "WeightAveraging",
            settings: ["model": ["kind": "linear"], "posterior": "swag", "epochs": 10, "batch": 20], schema: regression, rows: regressionRows),
        Scenario(
            title: "WeightAveraging, mlp, fge", method: "WeightAveraging",
            settings: ["model": ["kind": "mlp", "hidden": [16]], "posterior": "fge", "members": 3, "epochs": 8, "batch": 20], schema: classes(3, [2]), rows: blobs),
        Scenario(
            title: "WeightAveraging, conv3 with batch norm, fge", method: "WeightAveraging",
            settings: ["model": ["kind": "conv3", "widths": [4, 4, 4], "batchNorm": true], "posterior": "fge", "epochs": 6, "batch": 20], schema: classes(2, [1, 8, 8]),
            rows: { try labelled($0, $1, classes: 2, shape: [1, 8, 8], spread: 0.7) }),
        Scenario(
            title: "WeightAveraging, linear, learned noise", method: "WeightAveraging",
            settings: ["model": ["kind": "linear"], "epochs": 10, "batch": 20], schema: regression, rows: regressionRows),
    ]

    static let regression = Schema([
        TensorSchema("inputs", role: .input, dtype: .f32, shape: [2]), TensorSchema("targets", role: .target, dtype: .f32, shape: []),
    ])

    static func classes(_ count: Int, _ shape: [Int]) -> Schema {
        Schema([
            TensorSchema("inputs", role: .input, dtype: .f32, shape: shape),
            TensorSchema("targets", role: .target, dtype: .u8, shape: [], classes: (0..<count).map { "c\($0)" }),
        ])
    }

    /// y = 1 + 2 x₀ − x₁ + noise of standard deviation ½.
    static let regressionRows: @Sendable (UInt64, Int) throws -> Rows = { seed, count in
        let key = RandomKey(seed: seed).folding("regression")
        let x = try key.folding(0).normal([count, 2]).floats(), noise = try key.folding(1).normal([count]).floats()
        let y = (0..<count).map { (row: Int) -> Float in
            let signal: Float = 1 + 2 * x[2 * row] - x[2 * row + 1]
            return signal + 0.5 * noise[row]
        }
        return try Rows(
            ["inputs": TensorBytes(x, shape: [count, 2]), "targets": TensorBytes(y, shape: [count])], schema: regression, while: "testing")
    }

    static let blobs: @Sendable (UInt64, Int) throws -> Rows = { try labelled($0, $1, classes: 3, shape: [2], spread: 0.5) }

    /// One random centre a class, the same for every seed, and noise around it.
    static func labelled(_ seed: UInt64, _ count: Int, classes: Int, shape: [Int], spread: Float) throws -> Rows {
        let width = shape.reduce(1, *)
        let centres = try RandomKey(seed: 77).normal([classes, width]).floats()
        let key = RandomKey(seed: seed).folding("labelled")
        let noise = try key.normal([count, width]).floats()
        var inputs: [Float] = [], labels: [UInt8] = []
        for row in 0..<count {
            let label = row % classes
            labels.append(UInt8(label))
            for column in 0..<width { inputs.append(centres[label * width + column] + spread * noise[row * width + column]) }
        }
        return try Rows(
            ["inputs": TensorBytes(inputs, shape: [count] + shape), "targets": TensorBytes(labels, shape: [count])], schema: Self.classes(classes, shape),
            while: "testing")
    }
}
