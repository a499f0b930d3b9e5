import AccrueCore
import AccrueTensor
import AccrueWire
import ArgumentParser

/// `accrue-engine fisher`: how long the diagonal of a network's true Fisher information takes, in this process, on one thread, with random rows.
struct BenchFisherCommand: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "bench-fisher", abstract: "Time the diagonal of a model's Fisher information.")

    @Option(help: "The model.") var model: BenchProblem.Model
    @Option(help: "Rows that it is estimated from.") var rows = 1_000
    @Option(help: "How often it is done.") var repeats = 5
    @Flag(help: "One JSON object.") var json = false

    func validate() throws {
        guard (1...100_000).contains(rows), (1...10_000).contains(repeats) else { throw ValidationError("--rows and --repeats must be at least 1") }
    }

    func run() throws {
        EngineFingerprint.beginThread()
        let problem = try BenchProblem(model, .laplace, batch: min(128, rows), rows: rows)
        let round = problem.round(), work = try problem.work(round)
        var times: [Double] = []
        for _ in 0...repeats {
            let start = MonotonicTime.now()
            _ = try problem.method.statistics(of: work, on: [problem.rows], round: round, key: problem.keys.statistics(shard: 0))
            times.append(start.elapsedMs)
        }
        BenchProblem.show(Array(times.dropFirst()), json: json)
    }
}
