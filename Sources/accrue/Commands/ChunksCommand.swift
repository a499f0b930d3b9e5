import AccrueClient
import AccrueCore
import AccrueWire
import ArgumentParser

/// `accrue chunks …`
struct ChunksCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "chunks", abstract: "The chunks of a pipeline's log and what became of each.", subcommands: [List.self, Retry.self, SetAside.self])

    /// `accrue chunks list NAME`
    struct List: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "List chunks in log order.",
            discussion: """
                EXAMPLES
                  accrue chunks list fashion-mnist
                  accrue chunks list fashion-mnist --state setAside --json
                """)

        @Argument(help: "The pipeline.") var name: String
        @Option(
            help: "Only those in this state: waiting, absorbed, setAside or forgotten.",
            transform: { text in
                guard let state = ChunkState(rawValue: text) else { throw ValidationError("'\(text)' is not waiting, absorbed, setAside or forgotten") }
                return state
            }) var state: ChunkState?
        @Flag(help: "One JSON line a chunk.") var json = false
        @OptionGroup var connection: ConnectOptions

        func run() async throws {
            var table = TextTable("position", "chunk", "key", "rows", "state", "version", "held by", "reason")
            var failure: (any Error)?
            try await connection.open().chunks(name, state: state) { listing in
                for record in listing.chunks {
                    if json {
                        do { try Output.json(record) } catch { failure = error }
                        continue
                    }
                    table.add(
                        "\(record.position)", record.chunk.identity.short, record.chunk.key ?? "-", "\(record.chunk.rows)", record.state.rawValue,
                        record.version.map(String.init) ?? "-", record.workers.isEmpty ? "-" : record.workers.joined(separator: ","), record.reason ?? "")
                }
            }
            if let failure { throw failure }
            if !json { table.lines.forEach(Output.line) }
        }
    }

    /// `accrue chunks retry NAME POSITION…`
    struct Retry: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Append chunks that were set aside to the log again.",
            discussion: """
                EXAMPLE
                  accrue chunks retry fashion-mnist 17 18
                """)

        @Argument(help: "The pipeline.") var name: String
        @Argument(help: "Positions in the log.") var positions: [Int]
        @Flag(help: "Print JSON.") var json = false
        @OptionGroup var connection: ConnectOptions

        func run() async throws {
            let new = try await connection.open().retry(positions, of: name)
            if json { return try Output.json(PositionsReply(positions: new)) }
            for (old, new) in zip(positions, new) { Output.line("position \(old) is now at \(new)") }
        }
    }

    /// `accrue chunks set-aside NAME POSITION…`
    struct SetAside: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "set-aside", abstract: "Take chunks that wait out of learning; 'chunks retry' brings them back.",
            discussion: """
                EXAMPLE
                  accrue chunks set-aside fashion-mnist 17 --reason "labels shifted by one"
                """)

        @Argument(help: "The pipeline.") var name: String
        @Argument(help: "Positions in the log.") var positions: [Int]
        @Option(help: "Why; it stays in the log.") var reason: String
        @Flag(help: "Print JSON.") var json = false
        @OptionGroup var connection: ConnectOptions

        func run() async throws {
            let taken = try await connection.open().setAside(positions, of: name, reason: reason)
            if json { return try Output.json(PositionsReply(positions: taken)) }
            Output.line("set aside: \(taken.map { "position \($0)" }.joined(separator: ", "))")
        }
    }
}
