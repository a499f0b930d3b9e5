import AccrueCore
import ArgumentParser

extension BenchCommand {
    /// `accrue bench push`
    struct Push: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Time a worker's part of pushes, without sockets; no daemon is needed.",
            discussion: """
                Each push is read, checked, kept on disk, announced and acknowledged, but for the sending. A row has 1024 bytes.

                EXAMPLES
                  accrue bench push --chunks 1000 --rows 4
                """)

        @Option(help: "Pushes.") var chunks = 1_000
        @Option(help: "Rows of a chunk.") var rows = 4
        @Flag(help: "Print JSON.") var json = false

        func run() throws { try EngineProgram.become(["bench-push", "--chunks", String(chunks), "--rows", String(rows)] + (json ? ["--json"] : [])) }
    }
}
