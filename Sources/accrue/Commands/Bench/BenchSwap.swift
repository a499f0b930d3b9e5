import AccrueCore
import ArgumentParser

extension BenchCommand {
    /// `accrue bench swap`
    struct Swap: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Say how long a querier takes to put a new version in the place of the one it serves.",
            discussion: """
                Needs no daemon. Versions are made ready as a querier makes them (readyMedianMs, nobody waits for it) and swapped in, while somebody asks for
                the version some thousand times a second: medianMs, p99Ms and worstMs are of the swap alone, askerWorstMs is the longest that an ask waited, and
                releaseMedianMs the time in which the version before is let go of, where nobody waits. Without a file the pipeline is a Bayesian LeNet-5.

                EXAMPLES
                  accrue bench swap --swaps 200
                  accrue bench swap pipelines/mnist-incremental.yaml --json
                """)

        @Argument(help: "A pipeline file; else a Bayesian LeNet-5 is taken.") var file: String?
        @Option(help: "How many swaps.") var swaps = 100
        @Flag(help: "Print JSON.") var json = false

        func validate() throws {
            guard swaps > 0 else { throw ValidationError("--swaps must be at least 1") }
        }

        func run() throws {
            let declaration = try file.map { (path) throws(AccrueError) in try PipelineFile.read(path) } ?? Self.lenet
            _ = try PipelineDeclaration(parsing: declaration)
            try EngineProgram.become(["bench-swap", "--swaps", "\(swaps)"] + (json ? ["--json"] : []), input: declaration)
        }

        private static let lenet: JSONValue = [
            "name": "lenet5", "method": "IncrementalBayes", "seed": 1, "settings": ["model": ["kind": "lenet5"]],
            "schema": [
                ["name": "inputs", "role": "input", "dtype": "U8", "shape": [28, 28]],
                ["name": "targets", "role": "target", "dtype": "U8", "shape": [], "classes": ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]],
            ],
        ]
    }
}
