import AccrueCore
import AccrueTensor
import AccrueWire
import ArgumentParser

/// `accrue-engine bench-predict`: how long a predictive distribution takes, in this process, on one thread, with a random state.
struct BenchPredictCommand: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "bench-predict", abstract: "Time questions to a posterior, without sockets.")

    @Option(help: "The model.") var model: BenchProblem.Model
    @Option(help: "How its posterior is found.") var inference = BenchProblem.Inference.variational
    @Option(help: "Rows a question.") var rows = 1
    @Option(help: "Draws a question.") var draws = 16
    @Option(help: "How often it is asked.") var repeats = 20
    @Flag(help: "One JSON object.") var json = false

    func validate() throws {
        guard (1...1_000).contains(rows), (1...1_000).contains(draws), (1...100_000).contains(repeats) else {
            throw ValidationError("--rows is \(rows), --draws \(draws), --repeats \(repeats); at least 1 each, and at most 1000, 1000 and 100000")
        }
    }

    func run() throws {
        EngineFingerprint.beginThread()
        let problem = try BenchProblem(model, inference, batch: max(2, rows), rows: max(2, rows))
        let key = RoundKeys.initial(seed: 1)
        let state = try problem.method.load(try problem.method.initialState(key: key))
        guard let inputs = problem.rows.tensors["inputs"]?.rows(0..<rows) else { return }
        let question = QueryBytes(verb: "predict", header: ["draws": .integer(draws)], tensors: ["inputs": inputs])
        try state.prepare(for: key, following: nil)
        var times: [Double] = []
        // The first, which makes the draws, does not count.
        for _ in 0...repeats {
            let start = MonotonicTime.now()
            _ = try state.answer(question, key: key)
            times.append(start.elapsedMs)
        }
        BenchProblem.show(Array(times.dropFirst()), json: json)
    }
}
