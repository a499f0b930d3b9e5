import AccrueCore
import CZeroMQ
import Foundation

/// The open sockets of a loop, to be used by whoever holds them: libzmq wants one thread at a time and a full fence between two, which a mutex gives.
///
/// Whoever sends may thereby take in what libzmq would have woken the loop for (its descriptor fires once); `isUnread` keeps that for the loop.
struct OpenSockets {
    struct Open {
        let socket: LoopSocket
        var outbox = Outbox()
        /// A message may wait: libzmq has not said since that none does.
        var isUnread = true
    }

    var open: [Open] = []
    var hasUnread: Bool { open.contains(where: \.isUnread) }
    var hasWaiting: Bool { open.contains { !$0.outbox.isEmpty } }

    func index(_ name: String) -> Int? { open.firstIndex { $0.socket.name == name } }

    /// Sends at once if nothing stands in the way.
    /// - Returns: whether the message is libzmq's now, or lost; else it must wait, and is the loop's.
    mutating func sendNow(_ frames: [Data], on name: String, to peer: Peer?) -> (isDone: Bool, isUnread: Bool) {
        guard let index = index(name), !open[index].outbox.holds(peer) else { return (false, false) }
        let raw = open[index].socket.raw
        switch raw.send(Self.addressed(frames, to: peer)) {
        case .sent, .failed: break
        case .full, .unreachable: return (false, false)
        }
        if raw.hasUnread { open[index].isUnread = true }
        return (true, open[index].isUnread)
    }

    /// Sends, or puts into the outbox.
    /// - Returns: the peer if the message is lost for want of room.
    mutating func send(_ frames: [Data], on name: String, to peer: Peer?) -> (lost: Peer, LoopSocket)? {
        guard let index = index(name) else { return nil }
        let all = Self.addressed(frames, to: peer)
        // Order is kept: nothing overtakes what already waits for this peer.
        if !open[index].outbox.holds(peer) {
            open[index].isUnread = true
            switch open[index].socket.raw.send(all) {
            case .sent, .failed: return nil
            case .full, .unreachable: break
            }
        }
        guard !open[index].outbox.append(all, for: peer, at: MonotonicTime.now()), let peer else { return nil }
        return (peer, open[index].socket)
    }

    /// Tries again what waits.
    /// - Returns: peers that stayed away; what waited for them is gone.
    mutating func retry(at now: MonotonicTime) -> [(lost: Peer, LoopSocket)] {
        var lost: [(lost: Peer, LoopSocket)] = []
        for index in open.indices where !open[index].outbox.isEmpty {
            let socket = open[index].socket
            open[index].isUnread = true
            lost += open[index].outbox.retry(at: now) { socket.raw.send($0) }.map { ($0, socket) }
        }
        return lost
    }

    /// The next message of a socket, nil when none waits.
    mutating func receive(_ index: Int, framesMax: Int, withUser: Bool) -> RawSocket.Received? {
        let socket = open[index].socket
        if let received = socket.raw.receive(framesMax: framesMax, withUser: withUser) { return received }
        // Nothing is received on a PUB socket, but who subscribes is seen only when one asks.
        open[index].isUnread = socket.kind == ZMQ_PUB && socket.raw.hasUnread
        return nil
    }

    private static func addressed(_ frames: [Data], to peer: Peer?) -> [Data] { peer.map { [$0.bytes] + frames } ?? frames }
}
