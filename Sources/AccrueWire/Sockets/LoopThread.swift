import AccrueCore
import CZeroMQ
import Foundation
import Glibc

/// The loop itself; made and used on its own thread only.
final class LoopThread {
    private struct Open {
        let socket: LoopSocket
        var outbox = Outbox()
    }
    private struct Timer {
        var due: MonotonicTime
        let ms: Int
        let repeats: Bool
        let action: @Sendable () -> Void
    }

    /// Messages taken from one socket before the others get their turn.
    private static let messagesPerTurn = 64
    /// While a ROUTER's peer is full or away, how often sending is tried again (a ROUTER cannot be polled for one peer's room).
    private static let retryMs = 5

    private let core: LoopCore
    private var open: [Open] = []
    private var timers: [SocketLoop.TimerID: Timer] = [:]
    private var stopLingerMs: Int?

    init(_ core: LoopCore) { self.core = core }

    func run() {
        core.began()
        while stopLingerMs == nil {
            for command in core.takeCommands() { apply(command) }
            let now = MonotonicTime.now()
            for index in open.indices where !open[index].outbox.isEmpty { retry(index, now) }
            let wait = fireTimers(now)
            if stopLingerMs == nil { poll(wait) }
        }
        shutDown()
    }

    private func apply(_ command: LoopCommand) {
        switch command {
        case .add(let socket): open.append(Open(socket: socket))
        case .close(let name):
            guard let index = index(name) else { return }
            open.remove(at: index).socket.raw.close()
            core.release(name)
        case .send(let name, let peer, let frames):
            guard let index = index(name) else { return }
            send(frames, index, peer)
        case .timer(let id, let ms, let repeats, let action):
            timers[id] = Timer(due: MonotonicTime.now().adding(ms: ms), ms: ms, repeats: repeats, action: action)
        case .cancel(let id): timers[id] = nil
        case .stop(let lingerMs): stopLingerMs = max(stopLingerMs ?? 0, lingerMs)
        }
    }

    private func index(_ name: String) -> Int? { open.firstIndex { $0.socket.name == name } }

    private func send(_ frames: [Data], _ index: Int, _ peer: Peer?) {
        let all = peer.map { [$0.bytes] + frames } ?? frames
        // Order is kept: nothing overtakes what already waits for this peer.
        if !open[index].outbox.holds(peer) {
            switch open[index].socket.raw.send(all) {
            case .sent, .failed: return
            case .full, .unreachable: break
            }
        }
        if !open[index].outbox.append(all, for: peer, at: MonotonicTime.now()), let peer { open[index].socket.lost?(peer) }
    }

    private func retry(_ index: Int, _ now: MonotonicTime) {
        let raw = open[index].socket.raw
        for peer in open[index].outbox.retry(at: now, { raw.send($0) }) { open[index].socket.lost?(peer) }
    }

    /// - Returns: milliseconds until the next timer or retry; -1: none.
    private func fireTimers(_ now: MonotonicTime) -> Int {
        for (id, timer) in timers where timer.due <= now {
            if timer.repeats { timers[id]?.due = now.adding(ms: timer.ms) } else { timers[id] = nil }
            timer.action()
        }
        var wait = timers.values.map(\.due).min().map { $0.ms(since: now) + 1 } ?? -1
        if open.contains(where: { !$0.outbox.isEmpty }) { wait = wait < 0 ? Self.retryMs : min(wait, Self.retryMs) }
        return wait
    }

    private func poll(_ waitMs: Int) {
        var items = open.map { zmq_pollitem_t(socket: $0.socket.raw.handle, fd: 0, events: Int16(ZMQ_POLLIN), revents: 0) }
        items.append(zmq_pollitem_t(socket: nil, fd: core.wakeDescriptor, events: Int16(ZMQ_POLLIN), revents: 0))
        guard zmq_poll(&items, Int32(items.count), waitMs) > 0 else { return }
        if items[open.count].revents != 0 { core.clearWake() }
        for index in open.indices where items[index].revents & Int16(ZMQ_POLLIN) != 0 { receive(index) }
    }

    private func receive(_ index: Int) {
        let socket = open[index].socket
        if socket.kind == ZMQ_REP { return keepDoor(index) }
        let leading = socket.kind == ZMQ_ROUTER || socket.kind == ZMQ_SUB ? 1 : 0
        for _ in 0..<Self.messagesPerTurn {
            guard let received = socket.raw.receive(framesMax: Limits.messagePartsMax + leading, withUser: socket.guarding != nil) else { return }
            let frames = received.frames
            let first = leading == 1 ? frames.first : nil
            let peer = socket.kind == ZMQ_ROUTER ? first.map(Peer.init) : nil
            do throws(AccrueError) {
                let holder = try socket.guarding?.holder(of: received.user)
                guard received.excess == 0 else {
                    throw AccrueError(
                        .limitExceeded, while: "reading a message", "\(frames.count - leading + received.excess) frames; at most \(Limits.messagePartsMax) are allowed",
                        hint: "send bulk in pieces")
                }
                let message = try Message(frames: Array(frames.dropFirst(leading)))
                try holder?.check(message)
                let topic = socket.kind == ZMQ_SUB ? first.map { String(decoding: $0, as: UTF8.self) } : nil
                let incoming = Incoming(socket: socket.name, peer: peer, topic: topic, key: holder?.publicKey, message: message)
                if socket.receive(incoming) == .busy, let peer {
                    let busy = AccrueError(
                        .unavailable, while: "taking '\(message.verb)'", "there are more requests than can be served now",
                        hint: "wait and send the same again", retryAfterMs: 100)
                    answer(.refuse(message.id, busy), index, peer)
                }
            } catch {
                // Only the asked side answers; refusing an answer could go on for ever.
                guard let peer else { continue }
                answer(.refuse(Self.id(of: frames), error), index, peer)
            }
        }
    }

    /// Tells libzmq who may connect; it asks one question at a time.
    private func keepDoor(_ index: Int) {
        guard let keys = open[index].socket.guarding else { return }
        let raw = open[index].socket.raw
        while let request = raw.receive(framesMax: Limits.messagePartsMax) { _ = raw.send(Doorkeeper(keys: keys).answer(request.frames)) }
    }

    private func answer(_ message: Message, _ index: Int, _ peer: Peer) {
        guard let frames = try? message.frames() else { return }
        send(frames, index, peer)
    }

    /// The id of a message that was refused, when its header can be read.
    private static func id(of frames: [Data]) -> String? {
        guard frames.count > 3, frames[3].count <= Limits.headerBytesMax else { return nil }
        return (try? JSONValue(parsing: frames[3]))?["id"]?.string
    }

    private func shutDown() {
        for command in core.ended() { if case .add(let socket) = command { socket.raw.close() } }
        for socket in open.map(\.socket) {
            if let linger = stopLingerMs { socket.raw.set(ZMQ_LINGER, Int32(clamping: linger)) }
            socket.raw.close()
        }
        open = []
        zmq_ctx_term(core.context)
        core.signalEnd()
    }
}
