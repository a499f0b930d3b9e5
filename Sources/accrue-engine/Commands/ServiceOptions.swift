import AccrueCore
import AccrueWire
import AccrueWorker
import ArgumentParser
import Foundation

/// What a worker and a querier are told alike.
struct ServiceOptions: ParsableArguments {
    @Option(help: "The coordinator's control endpoint, such as ipc:///home/run/control.sock.") var coordinator: String
    @Option(help: "This process's directory; it is made if it is missing.") var home: String
    @Option(help: "Its name: unique in the cluster, the same at every start.") var name: String?
    @Option(help: "The endpoint to listen at (default: a socket under the home).") var listen: String?
    @Option(help: "How others reach it, if that differs; tcp://HOST:* takes the port that was bound.") var advertise: String?
    @Option(help: "The file of its key, of role worker: over TCP it connects and listens with CURVE.") var keyFile: String?
    @Flag(help: "Without a key, allow --listen where other machines reach it.") var insecure = false
    @Flag(help: "Standard input is a pipe that the parent holds: end at once when the parent ends.") var parentHolds = false

    func key() throws(AccrueError) -> ClientKey? { try keyFile.map { (path) throws(AccrueError) in try ClientKey(file: path) } }
}

/// A worker or querier as the life of a process: one line on standard error for each report, code 0 after a requested end.
struct ServiceProcess: Sendable {
    let role: String
    let name: String

    /// One line on standard error.
    func report(_ text: String) {
        let line = text.split(separator: "\n").map { $0.trimmingCharacters(in: .whitespaces) }.joined(separator: "; ")
        FileHandle.standardError.write(Data("accrue-engine \(role) '\(name)': \(line)\n".utf8))
    }

    /// Ends the process after an error that it must not outlive.
    func die(_ error: AccrueError) -> Never {
        report("\(error)")
        _exit(error.exitCode)
    }

    /// Runs a service until SIGTERM, SIGINT or the parent's end; the process ends with it.
    func live(parentHolds: Bool, _ service: @escaping @Sendable (ProcessEnd) async throws(AccrueError) -> Void) -> Never {
        let end = ProcessEnd(parentHolds: parentHolds)
        do throws(AccrueError) { try waitFor { () async throws(AccrueError) in try await service(end) } } catch { die(error) }
        report("ended as asked")
        // A fit that was given back may still run: nothing that it uses may be torn down before the process is gone.
        _exit(0)
    }
}
