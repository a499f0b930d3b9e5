public import AccrueCore
import Foundation

/// How a coordinator is started.
public struct CoordinatorSettings: Sendable {
    /// Holds truth, the local sockets and the lock.
    public let home: String
    /// Where others connect, besides the local socket: `tcp://HOST:PORT`, port `*` for any; nil: only this machine, through the home.
    public let listen: String?
    /// Whether the TCP sockets use CURVE, with the keys of the home; else they are plain, and whoever reaches them may do everything.
    public let isCurve: Bool
    public var timing = CoordinatorTiming()

    /// - Throws: `invalidInput` for an endpoint that is not `tcp://HOST:PORT`.
    public init(home: String, listen: String? = nil, isCurve: Bool = false) throws(AccrueError) {
        // Workers are told endpoints under it, and they may stand in another directory.
        self.home = URL(fileURLWithPath: home).standardizedFileURL.path
        self.listen = listen
        self.isCurve = isCurve && listen != nil
        guard let listen else { return }
        let port = listen.split(separator: ":").last.map(String.init) ?? ""
        guard listen.hasPrefix("tcp://"), listen.dropFirst(6).contains(":"), port == "*" || (1...65_535).contains(Int(port) ?? 0) else {
            throw AccrueError(.invalidInput, while: "starting the coordinator", "'\(listen)' is not tcp://HOST:PORT", hint: "for example --listen tcp://127.0.0.1:7700")
        }
    }

    /// The local control socket, which is always there.
    public var localControl: String { "ipc://\(run)/control.sock" }
    public var keys: KeyFolder { KeyFolder(home: home) }
    var run: String { "\(home)/run" }

    /// Where bulk and events are bound: beside the control socket, on ports of the system's choice.
    func endpoint(_ name: String) -> String {
        guard let listen, let colon = listen.lastIndex(of: ":") else { return "ipc://\(run)/\(name).sock" }
        return "\(listen[..<colon]):*"
    }
}

/// Where a running coordinator is.
public struct CoordinatorEndpoints: Codable, Equatable, Sendable {
    public var control: String
    public var bulk: String
    public var events: String
    public init(control: String, bulk: String, events: String) {
        self.control = control
        self.bulk = bulk
        self.events = events
    }
}
