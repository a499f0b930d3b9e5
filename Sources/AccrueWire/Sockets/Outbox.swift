import AccrueCore
import Foundation

/// Messages that wait for peers that cannot take them now: bounded in number and bytes, in order, per peer.
struct Outbox {
    struct Waiting {
        var frames: [Data]
        var bytes: Int
        /// When the message is given up if the peer stays away; nil: it waits only for room.
        var since: MonotonicTime
    }

    private(set) var waiting: [Peer?: [Waiting]] = [:]
    private let messagesMax: Int
    private let bytesMax: Int
    /// Of all peers together.
    private(set) var bytes = 0
    private var bytesOf: [Peer?: Int] = [:]
    /// How long a peer may be away before what waits for it is given up.
    private let patienceMs: Int
    /// Messages given up since the start.
    private(set) var lost = 0

    init(messagesMax: Int = Limits.outboxMessagesMax, bytesMax: Int = Limits.outboxBytesMax, patienceMs: Int = 3_000) {
        self.messagesMax = messagesMax
        self.bytesMax = bytesMax
        self.patienceMs = patienceMs
    }

    var isEmpty: Bool { waiting.isEmpty }

    /// Puts a message behind those that wait for the same peer; false when there is no room.
    mutating func append(_ frames: [Data], for peer: Peer?, at now: MonotonicTime) -> Bool {
        let count = frames.reduce(0) { $0 + $1.count }
        // A quarter each, so that no peer takes all the room.
        guard waiting[peer]?.count ?? 0 < messagesMax, bytes + count <= bytesMax, bytesOf[peer, default: 0] + count <= bytesMax / 4 else {
            lost += 1
            return false
        }
        bytes += count
        bytesOf[peer, default: 0] += count
        waiting[peer, default: []].append(Waiting(frames: frames, bytes: count, since: now))
        return true
    }

    func holds(_ peer: Peer?) -> Bool { waiting[peer] != nil }

    /// Sends what can be sent, in order for each peer.
    /// - Returns: peers that were away for too long; what waited for them is gone.
    mutating func retry(at now: MonotonicTime, _ send: ([Data]) -> RawSocket.Sent) -> [Peer] {
        var gone: [Peer] = []
        for (peer, messages) in waiting {
            var done = 0
            loop: for message in messages {
                switch send(message.frames) {
                case .sent: done += 1
                case .failed:
                    done += 1
                    lost += 1
                case .full: break loop
                case .unreachable:
                    if now.ms(since: message.since) >= patienceMs {
                        lost += messages.count - done
                        done = messages.count
                        if let peer { gone.append(peer) }
                    }
                    break loop
                }
            }
            let freed = messages.prefix(done).reduce(0) { $0 + $1.bytes }
            bytes -= freed
            bytesOf[peer, default: 0] -= freed
            if done == messages.count {
                waiting[peer] = nil
                bytesOf[peer] = nil
            } else if done > 0 { waiting[peer]?.removeFirst(done) }
        }
        return gone
    }
}
