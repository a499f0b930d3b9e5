import AccrueCore
import CZeroMQ
import Foundation
import Glibc

/// The loop itself; made and used on its own thread only.
final class LoopThread {
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
    /// The open sockets, in their order, with the descriptor by which libzmq wakes who waits for each. Only this thread opens and closes.
    private var sockets: [(socket: LoopSocket, descriptor: Int32)] = []
    private var timers: [SocketLoop.TimerID: Timer] = [:]
    private var stopLingerMs: Int?

    init(_ core: LoopCore) { self.core = core }

    func run() {
        core.began()
        while stopLingerMs == nil {
            takeCommands()
            let now = MonotonicTime.now()
            let lost = core.sockets.withLock { $0.hasWaiting ? $0.retry(at: now) : [] }
            for (peer, socket) in lost { socket.lost?(peer) }
            fireTimers(now)
            for index in sockets.indices { receive(index) }
            if stopLingerMs == nil { waitForMore() }
        }
        shutDown()
    }

    private func takeCommands() {
        // Taken and done in one: nobody sends between, or a later message would overtake.
        let lost = core.sockets.withLock { open -> [(lost: Peer, LoopSocket)] in core.takeCommands().compactMap { apply($0, &open) } }
        for (peer, socket) in lost { socket.lost?(peer) }
    }

    private func apply(_ command: LoopCommand, _ open: inout OpenSockets) -> (lost: Peer, LoopSocket)? {
        switch command {
        case .add(let socket):
            open.open.append(.init(socket: socket))
            sockets.append((socket, socket.raw.descriptor))
        case .close(let name):
            guard let index = open.index(name) else { return nil }
            open.open.remove(at: index).socket.raw.close()
            sockets.remove(at: index)
            core.release(name)
        case .send(let name, let peer, let frames): return open.send(frames, on: name, to: peer)
        case .timer(let id, let ms, let repeats, let action):
            timers[id] = Timer(due: MonotonicTime.now().adding(ms: ms), ms: ms, repeats: repeats, action: action)
        case .cancel(let id): timers[id] = nil
        case .stop(let lingerMs): stopLingerMs = max(stopLingerMs ?? 0, lingerMs)
        }
        return nil
    }

    private func fireTimers(_ now: MonotonicTime) {
        for (id, timer) in timers where timer.due <= now {
            if timer.repeats { timers[id]?.due = now.adding(ms: timer.ms) } else { timers[id] = nil }
            timer.action()
        }
    }

    /// Sleeps until there is something to do: a message, a command, a timer, or a retry.
    private func waitForMore() {
        // Before the last look: who brings something after it wakes.
        guard core.goToSleep() else { return }
        defer { core.wakeUp() }
        let (hasUnread, hasWaiting) = core.sockets.withLock { ($0.hasUnread, $0.hasWaiting) }
        if hasUnread { return }
        let now = MonotonicTime.now()
        var waitMs = timers.values.map(\.due).min().map { $0.ms(since: now) + ($0 > now ? 1 : 0) } ?? -1
        if hasWaiting { waitMs = waitMs < 0 ? Self.retryMs : min(waitMs, Self.retryMs) }
        var descriptors = sockets.map { pollfd(fd: $0.descriptor, events: Int16(POLLIN), revents: 0) }
        descriptors.append(pollfd(fd: core.wakeDescriptor, events: Int16(POLLIN), revents: 0))
        guard Glibc.poll(&descriptors, nfds_t(descriptors.count), Int32(clamping: waitMs)) > 0 else { return }
        if descriptors[sockets.count].revents != 0 { core.clearWake() }
        core.sockets.withLock { open in
            for index in sockets.indices where descriptors[index].revents != 0 { open.open[index].isUnread = true }
        }
    }

    private func receive(_ index: Int) {
        let socket = sockets[index].socket
        if socket.kind == ZMQ_REP { return keepDoor(index) }
        let leading = socket.kind == ZMQ_ROUTER || socket.kind == ZMQ_SUB ? 1 : 0
        for _ in 0..<Self.messagesPerTurn {
            let next = core.sockets.withLock { open in
                open.open[index].isUnread ? open.receive(index, framesMax: Limits.messagePartsMax + leading, withUser: socket.guarding != nil) : nil
            }
            guard let received = next else { return }
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
                    answer(.refuse(message.id, busy), socket, peer)
                }
            } catch {
                // Only the asked side answers; refusing an answer could go on for ever.
                guard let peer else { continue }
                answer(.refuse(Self.id(of: frames), error), socket, peer)
            }
        }
    }

    /// Tells libzmq who may connect; it asks one question at a time.
    private func keepDoor(_ index: Int) {
        guard let keys = sockets[index].socket.guarding else { return }
        let raw = sockets[index].socket.raw
        core.sockets.withLock { open in
            while open.open[index].isUnread, let request = open.receive(index, framesMax: Limits.messagePartsMax, withUser: false) {
                _ = raw.send(Doorkeeper(keys: keys).answer(request.frames))
            }
        }
    }

    private func answer(_ message: Message, _ socket: LoopSocket, _ peer: Peer) {
        guard let frames = try? message.frames() else { return }
        core.send(frames, on: socket.name, to: peer)
    }

    /// The id of a message that was refused, when its header can be read.
    private static func id(of frames: [Data]) -> String? {
        guard frames.count > 3, frames[3].count <= Limits.headerBytesMax else { return nil }
        return (try? JSONValue(parsing: frames[3]))?["id"]?.string
    }

    private func shutDown() {
        for command in core.ended() { if case .add(let socket) = command { socket.raw.close() } }
        core.sockets.withLock { open in
            for socket in open.open.map(\.socket) {
                if let linger = stopLingerMs { socket.raw.set(ZMQ_LINGER, Int32(clamping: linger)) }
                socket.raw.close()
            }
            open.open = []
        }
        zmq_ctx_term(core.context)
        core.signalEnd()
    }
}
