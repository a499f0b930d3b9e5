import AccrueCore
import ArgumentParser

extension BenchCommand {
    /// `accrue bench predict`
    struct Predict: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Time predictions of a model on one thread, without sockets; no daemon is needed.",
            discussion: """
                EXAMPLES
                  accrue bench predict --model lenet5 --draws 32
                """)

        @Option(help: "lenet5, conv3 or mlp.") var model: String
        @Option(help: "Rows a question.") var rows = 1
        @Option(help: "Draws a question.") var draws = 16
        @Option(help: "How often it is asked.") var repeats = 20
        @Flag(help: "Print JSON.") var json = false

        func run() throws {
            try EngineProgram.become(
                ["bench-predict", "--model", model, "--rows", String(rows), "--draws", String(draws), "--repeats", String(repeats)] + (json ? ["--json"] : []))
        }
    }
}
