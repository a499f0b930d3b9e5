import AccrueClient
import AccrueCoordinator
import AccrueCore
import AccrueWire
import ArgumentParser
import Foundation

/// Which daemon a command talks to, and who it is there.
struct ConnectOptions: ParsableArguments {
    @Option(help: "The daemon's control endpoint; else $ACCRUE_CONNECT, else the daemon of $ACCRUE_HOME, else that of ~/.accrue.") var connect: String?
    @Option(help: "A key file, for a daemon on TCP; else $ACCRUE_KEY. The owner of a home needs none.") var keyFile: String?

    var endpoint: String { connect.orVariable("ACCRUE_CONNECT") ?? HomeDirectory.control(HomeDirectory.standard) }

    func open() async throws(AccrueError) -> ClusterConnection { try await ClusterConnection.open(endpoint, as: try clientKey()) }

    private func clientKey() throws(AccrueError) -> ClientKey? {
        if let path = keyFile.orVariable("ACCRUE_KEY") { return try ClientKey(file: path) }
        // The daemon's other sockets ask for a key, and its owner has one.
        return try HomeDirectory.home(ofControl: endpoint).flatMap { home throws(AccrueError) in try KeyFolder(home: home).ownerKey() }
    }
}

extension String? {
    /// This text or, if there is none, that of an environment variable that is not empty.
    func orVariable(_ name: String) -> String? { (self ?? ProcessInfo.processInfo.environment[name]).flatMap { $0.isEmpty ? nil : $0 } }
}
