import AccrueClient
import AccrueCore
import ArgumentParser
import Foundation

/// Which daemon a command talks to.
struct ConnectOptions: ParsableArguments {
    @Option(help: "The daemon's control endpoint; else $ACCRUE_CONNECT, else the daemon of $ACCRUE_HOME, else that of ~/.accrue.") var connect: String?

    var endpoint: String {
        let named = connect ?? ProcessInfo.processInfo.environment["ACCRUE_CONNECT"]
        return named.flatMap { $0.isEmpty ? nil : $0 } ?? HomeDirectory.control(HomeDirectory.standard)
    }

    func open() async throws(AccrueError) -> ClusterConnection { try await ClusterConnection.open(endpoint) }
}
