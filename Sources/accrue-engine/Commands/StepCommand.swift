import AccrueCore
import AccrueMethods
import AccrueTensor
import AccrueWire
import ArgumentParser
import Foundation
import Synchronization

/// `accrue-engine step`: how long a training step takes, in this process, on one thread, with random rows.
struct StepCommand: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "step", abstract: "Time training steps of a model.")

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

    enum Inference: String, CaseIterable, ExpressibleByArgument { case variational, laplace }

    @Option(help: "The model.") var model: Model
    @Option(help: "How its posterior is found.") var inference: Inference
    @Option(help: "Rows a step.") var batch = 128
    @Option(help: "Steps to time.") var steps = 60
    @Option(help: "The fused kernels: reference, baseline, avx2, avx512 or widest.") var kernels = "widest"
    @Flag(help: "One JSON object.") var json = false

    private static let stepsBefore = 5

    func validate() throws {
        guard (1...10_000).contains(batch), (1...10_000).contains(steps) else { throw ValidationError("--batch and --steps must lie between 1 and 10000") }
        guard FusedKernels.allCases.contains(where: { "\($0)" == kernels }) else { throw ValidationError("there are no kernels '\(kernels)'") }
    }

    func run() throws {
        EngineFingerprint.beginThread()
        if let level = FusedKernels.allCases.first(where: { "\($0)" == kernels }) { try FusedKernels.use(level) }
        let times = try milliseconds().sorted()
        func quantile(_ share: Double) -> Double { times[min(times.count - 1, Int(Double(times.count) * share))] }
        let figures = ["medianMs": quantile(0.5), "minMs": quantile(0), "p90Ms": quantile(0.9), "steps": Double(times.count)]
        if json {
            print(JSONValue.object(figures.mapValues { .number($0) }).canonical)
        } else {
            for (name, value) in figures.sorted(by: { $0.key < $1.key }) { print("\(name): \(String(format: "%.6g", value))") }
        }
    }

    /// The time of each step. A fit asks at each step whether it should stop, so the time between two such questions is a whole step's: rows, gradient,
    /// optimiser and average.
    private func milliseconds() throws -> [Double] {
        let (shape, settings) = model.declaration, rows = batch * (steps + Self.stepsBefore + 1)
        let schema = Schema([
            TensorSchema("inputs", role: .input, dtype: .f32, shape: shape),
            TensorSchema("targets", role: .target, dtype: .u8, shape: [], classes: (0..<10).map { "class\($0)" }),
        ])
        let pipeline = PipelineDeclaration(
            name: "bench", method: "IncrementalBayes", seed: 1, schema: schema,
            settings: ["model": settings, "inference": .string(inference.rawValue), "epochs": 1, "batch": .integer(batch), "averageTail": 1],
            round: .init(chunks: 1))
        let method = try MethodCatalog.standard.make(pipeline), keys = RoundKeys(seed: pipeline.seed, version: 1)
        let inputs = try keys.begin.folding("inputs").uniform([rows] + shape).bytes()
        let targets = keys.begin.folding("targets").permutation(rows).map { UInt8($0 % 10) }
        let shard = try Rows(["inputs": inputs, "targets": TensorBytes(targets, shape: [rows])], schema: schema, while: "making rows")
        let asked = Mutex<[UInt64]>([])
        let round = Round(
            index: 1, sweep: 0, sweeps: 1, shards: 1, shardRows: rows, roundRows: rows, rowsBefore: 0, sweepKey: keys.sweep(0),
            shouldStop: {
                asked.withLock { $0.append(MonotonicTime.now().nanoseconds) }
                return false
            })
        let work = try method.begin(try method.initialState(key: RoundKeys.initial(seed: pipeline.seed)), round: round, key: keys.begin)
        _ = try method.fit(work, to: [shard], round: round, key: keys.fit(sweep: 0, shard: 0))
        let times = asked.withLock { $0 }
        return zip(times.dropFirst(Self.stepsBefore), times.dropFirst(Self.stepsBefore + 1)).map { Double($1 - $0) / 1e6 }
    }
}
