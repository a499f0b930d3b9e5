public import AccrueCore
public import AccrueWire
import Foundation
import Synchronization

/// A client's connection to a cluster: the coordinator's control socket, and from there whichever sockets a request needs.
///
/// All requests may be used from several tasks at once. Nothing waits for ever: a coordinator that does not answer is an `unavailable` error after a
/// few seconds.
public final class ClusterConnection: Sendable {
    private struct Shared {
        var welcome: Welcome
        var requesters: [String: Requester] = [:]
        /// Work under way at each endpoint; present while somebody watches it.
        var work: [String: Int] = [:]
        var number = 0
    }

    /// The control endpoint.
    public let endpoint: String
    let patience: Patience
    let loop: SocketLoop
    let control: Requester
    private let shared: Mutex<Shared>

    private init(endpoint: String, patience: Patience, loop: SocketLoop, control: Requester, welcome: Welcome) {
        self.endpoint = endpoint
        self.patience = patience
        self.loop = loop
        self.control = control
        shared = Mutex(Shared(welcome: welcome))
    }

    /// Connects to a coordinator's control endpoint.
    /// - Parameter key: who asks, where sockets ask for a key.
    /// - Throws: `unavailable` when nobody answers there, `invalidInput` for a malformed endpoint, `unauthorised` when who listens there does not accept
    ///   the key, or asks for one.
    public static func open(_ endpoint: String, as key: ClientKey? = nil, patience: Patience = Patience()) async throws(AccrueError) -> ClusterConnection {
        let hint = "start a daemon with 'accrue serve', or name its control endpoint with --connect or ACCRUE_CONNECT"
        if endpoint.hasPrefix("ipc:///"), !FileManager.default.fileExists(atPath: String(endpoint.dropFirst(6))) {
            throw AccrueError(.unavailable, while: "connecting to \(endpoint)", "no daemon listens there", hint: hint)
        }
        let keyed = try key?.endpoint(endpoint) ?? endpoint
        let loop = try SocketLoop(as: key?.pair)
        let control = try Requester(loop, name: "control", to: keyed)
        do throws(AccrueError) {
            let welcome = try await hello(control, patience)
            return ClusterConnection(endpoint: endpoint, patience: patience, loop: loop, control: control, welcome: welcome)
        } catch where error.code == .unavailable {
            try await HandshakeProbe(keyed, as: key?.pair).check(while: "connecting to \(endpoint)")
            throw AccrueError(.unavailable, while: "connecting to \(endpoint)", "no daemon answered within \(patience.helloMs) ms", hint: hint)
        }
    }

    /// Closes all sockets; requests under way fail.
    public func close() {
        let gone = AccrueError(.unavailable, while: "asking \(endpoint)", "the connection was closed")
        for requester in [control] + shared.withLock({ Array($0.requesters.values) }) { requester.abandon(gone) }
        loop.stop()
    }

    /// Where the cluster's sockets are, as last heard.
    public var endpoints: Endpoints { shared.withLock { $0.welcome.endpoints } }

    /// Chunks that may go in one push.
    var togetherMax: Int { shared.withLock { $0.welcome.limits.pushChunks ?? 1 } }

    /// Asks the coordinator again where the sockets of live workers and queriers are.
    @discardableResult
    public func refresh() async throws(AccrueError) -> Endpoints {
        let welcome = try await Self.hello(control, patience)
        shared.withLock { $0.welcome = welcome }
        return welcome.endpoints
    }

    private static func hello(_ control: Requester, _ patience: Patience) async throws(AccrueError) -> Welcome {
        try await control.ask(.hello, Hello(role: .client), timeoutMs: patience.helloMs)
    }

    /// The connection to one of the cluster's sockets, made when it is first needed.
    func requester(to endpoint: String, traffic: SocketLoop.Traffic) throws(AccrueError) -> Requester {
        if let known = shared.withLock({ $0.requesters[endpoint] }) { return known }
        let number = shared.withLock { shared in
            shared.number += 1
            return shared.number
        }
        let requester = try Requester(loop, name: "peer-\(number)", to: endpoint, traffic: traffic)
        return shared.withLock { shared in
            // Of two tasks that come at once the first one's connection stays.
            if let known = shared.requesters[endpoint] { return known }
            shared.requesters[endpoint] = requester
            return requester
        }
    }

    /// Gives up a socket whose process is gone; what waits for its answers fails.
    func forget(_ endpoint: String, because error: AccrueError) { shared.withLock { $0.requesters.removeValue(forKey: endpoint) }?.abandon(error) }

    /// - Returns: whether nobody watches the endpoint: then somebody must.
    func beginWork(at endpoint: String) -> Bool {
        shared.withLock { shared in
            defer { shared.work[endpoint, default: 0] += 1 }
            return shared.work[endpoint] == nil
        }
    }

    func endWork(at endpoint: String) { shared.withLock { $0.work[endpoint, default: 1] -= 1 } }

    /// - Returns: whether there is nothing to watch any more.
    func endWatch(of endpoint: String) -> Bool {
        shared.withLock { shared in
            guard shared.work[endpoint] == 0 else { return false }
            shared.work[endpoint] = nil
            return true
        }
    }
}
