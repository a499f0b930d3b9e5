import AccrueCore
import ArgumentParser

extension BenchCommand {
    /// `accrue bench merge`
    struct Merge: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Time the merge of diagonal states on one thread, against the machine's copying of as many bytes; no daemon is needed.",
            discussion: """
                A state is one tensor of random numbers; the merge is their weighted mean, as shards' deltas are merged. The limit is memcpy, by turns with it,
                of half as many bytes as the merge reads and writes together, for a copy reads and writes each. share: the merge's rate by the copy's.

                EXAMPLES
                  accrue bench merge --states 8 --weights 10000000 --json
                """)

        @Option(help: "States to merge.") var states = 8
        @Option(help: "Weights of a state.") var weights = 10_000_000
        @Option(help: "How often it is done.") var repeats = 15
        @Flag(help: "Print JSON.") var json = false

        func run() throws {
            try EngineProgram.become(
                ["bench-merge", "--states", String(states), "--weights", String(weights), "--repeats", String(repeats)] + (json ? ["--json"] : []))
        }
    }
}
