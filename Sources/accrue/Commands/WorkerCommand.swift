import ArgumentParser

/// `accrue worker`
struct WorkerCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "worker", abstract: "Join a cluster as an ingest worker: take chunks, keep them, learn from them.",
        discussion: """
            EXAMPLES
              accrue worker --coordinator ipc:///srv/accrue/run/control.sock --home /srv/worker-7
              accrue worker --coordinator tcp://10.0.0.1:5555 --home /srv/worker-7 --listen 'tcp://10.0.0.7:*'
            """)

    @Option(help: "The coordinator's control endpoint.") var coordinator: String
    @Option(help: "The worker's own directory; what it has taken in lies there.") var home: String
    @Option(help: "Unique in the cluster; else the one that the home had before, else a new one.") var name: String?
    @Option(help: "Where pushes arrive; else a socket in the home.") var listen: String?
    @Option(help: "How others reach it, where that differs; tcp://HOST:* takes the bound port.") var advertise: String?

    func run() throws {
        var arguments = ["worker", "--coordinator", coordinator, "--home", home]
        for (option, value) in [("--name", name), ("--listen", listen), ("--advertise", advertise)] {
            if let value { arguments += [option, value] }
        }
        try EngineProgram.become(arguments)
    }
}
