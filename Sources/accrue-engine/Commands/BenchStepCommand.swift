import AccrueCore
import AccrueTensor
import AccrueWire
import ArgumentParser
import Foundation
import Synchronization

/// `accrue-engine step`: how long a training step takes, in this process, on one thread, with random rows.
struct BenchStepCommand: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "bench-step", abstract: "Time training steps of a model.")

    @Option(help: "The model.") var model: BenchProblem.Model
    @Option(help: "How its posterior is found.") var inference: BenchProblem.Inference
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
        BenchProblem.show(try milliseconds(), json: json)
    }

    /// The time of each step. A fit asks at each step whether it should stop, so the time between two such questions is a whole step's: rows, gradient,
    /// optimiser and average.
    private func milliseconds() throws -> [Double] {
        let problem = try BenchProblem(model, inference, batch: batch, rows: batch * (steps + Self.stepsBefore + 1))
        let asked = Mutex<[UInt64]>([])
        let round = problem.round {
            asked.withLock { $0.append(MonotonicTime.now().nanoseconds) }
            return false
        }
        _ = try problem.method.fit(try problem.work(round), to: [problem.rows], round: round, key: problem.keys.fit(sweep: 0, shard: 0))
        let times = asked.withLock { $0 }
        return zip(times.dropFirst(Self.stepsBefore), times.dropFirst(Self.stepsBefore + 1)).map { Double($1 - $0) / 1e6 }
    }
}
