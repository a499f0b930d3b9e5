import AccrueClient
import ArgumentParser

/// `accrue flush NAME`
struct FlushCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "flush", abstract: "End a pipeline's open round now, so that the chunks that wait are learned.",
        discussion: """
            EXAMPLE
              accrue flush fashion-mnist
            """)

    @Argument(help: "The pipeline.") var name: String
    @Flag(help: "Print JSON.") var json = false
    @OptionGroup var connection: ConnectOptions

    func run() async throws {
        let flushed = try await connection.open().flush(name)
        if json { return try Output.json(flushed) }
        Output.line(flushed.position.map { "the round ends at position \($0)" } ?? "no chunk was open")
    }
}
