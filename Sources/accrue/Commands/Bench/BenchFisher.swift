import AccrueCore
import ArgumentParser

extension BenchCommand {
    /// `accrue bench fisher`
    struct Fisher: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Time the diagonal of a model's true Fisher information on one thread, with random rows; no daemon is needed.",
            discussion: """
                EXAMPLES
                  accrue bench fisher --model lenet5 --rows 1000 --json
                """)

        @Option(help: "lenet5, conv3 or mlp.") var model: String
        @Option(help: "Rows that it is estimated from.") var rows = 1_000
        @Option(help: "How often it is done.") var repeats = 5
        @Flag(help: "Print JSON.") var json = false

        func run() throws {
            try EngineProgram.become(["bench-fisher", "--model", model, "--rows", String(rows), "--repeats", String(repeats)] + (json ? ["--json"] : []))
        }
    }
}
