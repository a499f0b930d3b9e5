import AccrueClient
import AccrueWire
import ArgumentParser
import Foundation

/// `accrue status`
struct StatusCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "status", abstract: "How the pipelines, workers and queriers of a daemon are.",
        discussion: """
            EXAMPLES
              accrue status
              accrue status --watch
              accrue status --json --connect tcp://10.0.0.1:7700 --key-file reader.key
            """)

    @Flag(help: "Go on showing it whenever it changes, until interrupted.") var watch = false
    @Flag(help: "Print JSON; one line a change with --watch.") var json = false
    @OptionGroup var connection: ConnectOptions

    func run() async throws {
        let cluster = try await connection.open()
        guard watch else { return try show(try await cluster.status()) }
        var last: ClusterStatus?
        for await _ in try cluster.occasions() {
            let status = try await cluster.status()
            guard status != last else { continue }
            last = status
            if !json, isatty(1) == 1 { print("\u{1B}[H\u{1B}[2J", terminator: "") }
            try show(status)
        }
    }

    private func show(_ status: ClusterStatus) throws {
        if json { return try Output.json(status) }
        StatusText.lines(of: status).forEach(Output.line)
    }
}
