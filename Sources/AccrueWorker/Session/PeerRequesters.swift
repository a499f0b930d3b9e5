import AccrueCore
import AccrueWire
import Synchronization

/// Connections to other workers, made when they are first wanted and kept.
final class PeerRequesters: Sendable {
    private static let keptMax = 64
    private struct Shared {
        var requesters: [String: Requester] = [:]
        var number = 0
    }

    private let loop: SocketLoop
    private let shared = Mutex(Shared())

    init(_ loop: SocketLoop) { self.loop = loop }

    func requester(to endpoint: String) throws(AccrueError) -> Requester {
        if let known = shared.withLock({ $0.requesters[endpoint] }) { return known }
        let number = shared.withLock { shared in
            if shared.requesters.count >= Self.keptMax { shared.requesters = [:] }
            shared.number += 1
            return shared.number
        }
        let requester = try Requester(loop, name: "peer-\(number)", to: endpoint, traffic: .bulk)
        shared.withLock { $0.requesters[endpoint] = requester }
        return requester
    }

    /// One that did not answer; the next to want it connects anew.
    func forget(_ endpoint: String) { shared.withLock { _ = $0.requesters.removeValue(forKey: endpoint) } }
}
