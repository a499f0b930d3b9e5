import AccrueCore
import AccrueMethods
import AccrueTensor
import ArgumentParser
import Foundation

/// A model, random rows and a round over them: what the engine's measurements have in common.
struct BenchProblem {
    enum Model: String, CaseIterable, ExpressibleByArgument {
        case lenet5, conv3, mlp

        /// Shape of a row, and the model's settings.
        var declaration: (shape: [Int], settings: JSONValue) {
            switch self {
            case .lenet5: ([1, 28, 28], ["kind": "lenet5"])
            case .conv3: ([3, 32, 32], ["kind": "conv3"])
            case .mlp: ([784], ["kind": "mlp", "hidden": [400, 400]])
            }
        }
    }

    enum Inference: String, CaseIterable, ExpressibleByArgument { case variational, laplace, naturalGradient }

    let method: any OpaqueMethod
    let keys: RoundKeys
    let rows: Rows
    private let seed: UInt64

    /// Ten classes; one epoch over the rows, averaged from its first step on.
    init(_ model: Model, _ inference: Inference, batch: Int, rows count: Int) throws {
        let (shape, settings) = model.declaration
        let schema = Schema([
            TensorSchema("inputs", role: .input, dtype: .f32, shape: shape),
            TensorSchema("targets", role: .target, dtype: .u8, shape: [], classes: (0..<10).map { "class\($0)" }),
        ])
        var all: [String: JSONValue] = [
            "model": settings, "inference": .string(inference.rawValue), "epochs": 1, "batch": .integer(batch), "averageTail": 1, "fisherRows": .integer(count),
        ]
        // Steps alone are timed, not the Fisher information that a round would begin with.
        if inference == .naturalGradient { all["initialHessian"] = 0.1 }
        let pipeline = PipelineDeclaration(
            name: "bench", method: "IncrementalBayes", seed: 1, schema: schema, settings: .object(all), round: .init(chunks: 1))
        method = try MethodCatalog.standard.make(pipeline)
        keys = RoundKeys(seed: pipeline.seed, version: 1)
        seed = pipeline.seed
        let inputs = try keys.begin.folding("inputs").uniform([count] + shape).bytes()
        let targets = keys.begin.folding("targets").permutation(count).map { UInt8($0 % 10) }
        rows = try Rows(["inputs": inputs, "targets": TensorBytes(targets, shape: [count])], schema: schema, while: "making rows")
    }

    /// The first round, of one shard and one sweep.
    func round(shouldStop: @escaping @Sendable () -> Bool = { false }) -> Round {
        Round(
            index: 1, sweep: 0, sweeps: 1, shards: 1, shardRows: rows.count, roundRows: rows.count, rowsBefore: 0, sweepKey: keys.sweep(0),
            shouldStop: shouldStop)
    }

    /// The round's work before its first step.
    func work(_ round: Round) throws -> Data { try method.begin(try method.initialState(key: RoundKeys.initial(seed: seed)), round: round, key: keys.begin) }

    /// Prints quantiles of times in milliseconds.
    static func show(_ milliseconds: [Double], json: Bool) {
        let times = milliseconds.sorted()
        func quantile(_ share: Double) -> Double { times[min(times.count - 1, Int(Double(times.count) * share))] }
        show(["medianMs": quantile(0.5), "minMs": quantile(0), "p90Ms": quantile(0.9), "count": Double(times.count)], json: json)
    }

    static func median(_ values: some Sequence<Double>) -> Double {
        let sorted = values.sorted()
        return sorted.isEmpty ? 0 : sorted[sorted.count / 2]
    }

    static func show(_ figures: [String: Double], json: Bool) {
        if json { return print(JSONValue.object(figures.mapValues { .number($0) }).canonical) }
        for (name, value) in figures.sorted(by: { $0.key < $1.key }) { print("\(name): \(String(format: "%.6g", value))") }
    }
}
