import AccrueCoordinator
import ArgumentParser
import Foundation

/// `accrue worker`
struct WorkerCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "worker", abstract: "Join a cluster as an ingest worker: take chunks, keep them, learn from them.",
        discussion: """
            EXAMPLES
              accrue worker --coordinator ipc:///srv/accrue/run/control.sock --home /srv/worker-7
              accrue worker --coordinator tcp://10.0.0.1:7700 --key-file worker-7.key --home /srv/worker-7 \\
                --listen 'tcp://10.0.0.7:*'
            """)

    @Option(help: "The coordinator's control endpoint.") var coordinator: String
    @Option(help: "The worker's own directory; what it has taken in lies there.") var home: String
    @Option(help: "Unique in the cluster; else the one that the home had before, else a new one.") var name: String?
    @Option(help: "Where pushes arrive; else a socket in the home.") var listen: String?
    @Option(help: "How others reach it, where that differs; tcp://HOST:* takes the bound port.") var advertise: String?
    @Option(help: "The file of its key, of role worker, made by 'accrue keys add'; else $ACCRUE_KEY. The owner of the coordinator's home needs none.") var keyFile: String?
    @Flag(help: "Without a key, allow --listen where other machines reach it, unencrypted.") var insecure = false

    func run() throws {
        var arguments = ["worker", "--coordinator", coordinator, "--home", home]
        for (option, value) in [("--name", name), ("--listen", listen), ("--advertise", advertise), ("--key-file", keyFile.orVariable("ACCRUE_KEY") ?? childrenKey)] {
            if let value { arguments += [option, value] }
        }
        if insecure { arguments.append("--insecure") }
        try EngineProgram.become(arguments)
    }

    /// On local sockets alone, a worker of the home's owner is as one of the daemon's children.
    private var childrenKey: String? {
        guard listen == nil, let home = HomeDirectory.home(ofControl: coordinator) else { return nil }
        let file = KeyFolder(home: home).file(of: KeyFolder.childrenName)
        return FileManager.default.isReadableFile(atPath: file) ? file : nil
    }
}
