import AccrueCore
import AccrueCoordinator
import AccrueHTTP
import AccrueWire
import Foundation

/// What `accrue serve` was told, checked.
struct ServeSettings: Sendable {
    let home: String
    let workers: Int
    /// `tcp://HOST:PORT` for others than this machine's users; nil: sockets in the home alone.
    let listen: String?
    let coordinator: CoordinatorSettings
    /// How long the querier lets a query wait for others, to answer them together.
    let queryWindowMs: Int
    let http: HTTPSettings?
    private let isInsecure: Bool

    static let workersMax = 256

    /// - Throws: `invalidInput` for an address that others could not use or that is not safe to offer, and for a home with too long a path.
    init(home: String, workers: Int, listen: String?, isCurve: Bool, isInsecure: Bool, queryWindowMs: Int = 0, http: HTTPSettings? = nil) throws(AccrueError) {
        let operation = "starting the daemon"
        let listen = listen?.replacing("tcp://localhost:", with: "tcp://127.0.0.1:")
        self.home = HomeDirectory.absolute(home)
        self.workers = workers
        self.listen = listen
        self.isInsecure = isInsecure
        self.queryWindowMs = queryWindowMs
        self.http = http
        let isOpen = listen.map { !KeyedEndpoint.isLocal($0) } ?? false
        coordinator = try CoordinatorSettings(home: self.home, listen: listen, isCurve: isCurve || (isOpen && !isInsecure))
        if let listen {
            let host = Self.host(of: listen)
            guard !["*", "0.0.0.0", "[::]"].contains(host) else {
                throw AccrueError(
                    .invalidInput, while: operation, "'\(listen)' does not say at which address others reach this machine",
                    hint: "give one of the machine's addresses, for example --listen tcp://10.0.0.1:7700")
            }
        }
        let longest = socket(of: "worker-\(max(0, workers - 1))")
        guard longest.utf8.count <= 107 else {
            throw AccrueError(
                .invalidInput, while: operation, "the socket \(longest) would have a path of \(longest.utf8.count) bytes; the system allows 107",
                hint: "choose a --home with a shorter path")
        }
    }

    /// The worker and querier processes, in the order of their numbers; the querier is the last.
    func children(engine: String) -> [SupervisedChild] {
        let workers = (0..<workers).map { child("worker", name: "worker-\($0)", home: "\(home)/workers/worker-\($0)", engine) }
        return workers + [child("querier", name: "querier", home: "\(home)/querier", engine)]
    }

    private func child(_ role: String, name: String, home: String, _ engine: String) -> SupervisedChild {
        let endpoint = listen.map { "tcp://\(Self.host(of: $0)):*" } ?? "ipc://\(socket(of: name))"
        var arguments = [role, "--coordinator", coordinator.localControl, "--home", home, "--name", name, "--listen", endpoint, "--parent-holds"]
        if coordinator.isCurve { arguments += ["--key-file", coordinator.keys.file(of: KeyFolder.childrenName)] }
        if isInsecure { arguments.append("--insecure") }
        if role == "querier", queryWindowMs > 0 { arguments += ["--window-ms", "\(queryWindowMs)"] }
        return SupervisedChild(name: name, program: engine, arguments: arguments)
    }

    /// All local sockets stand in one directory: its path is what limits the length of the home's.
    private func socket(of name: String) -> String { "\(home)/run/\(name).sock" }

    private static func host(of endpoint: String) -> String {
        let address = endpoint.dropFirst("tcp://".count)
        return String(address[..<(address.lastIndex(of: ":") ?? address.endIndex)])
    }
}
