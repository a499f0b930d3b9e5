import AccrueClient
import AccrueWire
import ArgumentParser

/// `accrue events`
struct EventsCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "events", abstract: "What happened: versions made, chunks set aside, workers lost, pipelines paused.",
        discussion: """
            EXAMPLES
              accrue events
              accrue events --follow --pipeline fashion-mnist
              accrue events --after 120 --json
            """)

    @Flag(help: "Go on as things happen, until interrupted.") var follow = false
    @Option(help: "Only events with a larger number.") var after = 0
    @Option(help: "Only those of this pipeline.") var pipeline: String?
    @Flag(help: "One JSON line an event.") var json = false
    @OptionGroup var connection: ConnectOptions

    func run() async throws {
        let cluster = try await connection.open()
        var last = after
        for await _ in try cluster.occasions() {
            for event in try await cluster.events(after: last) {
                last = event.number
                if pipeline == nil || event.pipeline == pipeline { try show(event) }
            }
            guard follow else { return }
        }
    }

    private func show(_ event: EventRecord) throws {
        if json { return try Output.json(event) }
        Output.line("\(event.number)  \(Output.time(event.atMs))  \(event.pipeline ?? "-")  \(event.kind)  \(event.text)")
    }
}
