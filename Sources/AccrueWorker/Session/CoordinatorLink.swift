import AccrueCore
import AccrueWire
import Foundation
import Synchronization

/// A worker's or querier's session with the coordinator: hello, a heartbeat a second, and hello again whenever the coordinator was started anew,
/// does not know this process, or was not heard for so long that it has given this process up.
final class CoordinatorLink: Sendable {
    static let heartbeatMs = 1_000

    private enum Event: Sendable {
        case join
        case fail(AccrueError)
    }

    private struct Shared {
        var boot: String?
        var bulkEndpoint: String?
        var bulk: Requester?
        var bulkNumber = 0
        var heardAt: MonotonicTime?
        var isJoining = true
    }

    let control: Requester
    private let loop: SocketLoop
    private let ring: KeyRing?
    private let hello: Hello
    private let silenceMs: Int
    private let routingID: Data
    private let report: @Sendable (String) -> Void
    private let shared = Mutex(Shared())
    private let events: AsyncStream<Event>
    private let announceEvent: AsyncStream<Event>.Continuation

    /// - Parameters:
    ///   - hello: what to say first, and again at every joining.
    ///   - silenceMs: after this long without an answer the coordinator counts this process as dead.
    ///   - unasked: what the coordinator sends by itself; on the loop's thread.
    init(
        _ membership: Membership, hello: Hello, silenceMs: Int, report: @escaping @Sendable (String) -> Void,
        unasked: @escaping @Sendable (Message) -> Void = { _ in }
    ) throws(AccrueError) {
        loop = membership.loop
        ring = membership.ring
        self.hello = hello
        self.silenceMs = silenceMs
        // Nobody else can guess it, and so nobody else can take this process's place on the coordinator's sockets.
        routingID = Data("\(hello.role == .querier ? "q" : "w")-\(UUID().uuidString)".utf8)
        self.report = report
        (events, announceEvent) = AsyncStream.makeStream(bufferingPolicy: .unbounded)
        control = try Requester(loop, name: "control", to: membership.coordinator, routingID: routingID, unasked: unasked)
    }

    /// The connection for blobs.
    /// - Throws: `unavailable` before the first joining.
    func bulk() throws(AccrueError) -> Requester {
        guard let bulk = shared.withLock({ $0.bulk }) else {
            throw AccrueError(.unavailable, while: "asking the coordinator for bytes", "it has not been reached yet", hint: "wait", retryAfterMs: 500)
        }
        return bulk
    }

    /// Joins, and stays joined until `stop`.
    /// - Parameters:
    ///   - heartbeat: what to say each second; on the loop's thread.
    ///   - joined: what follows each hello.
    ///   - heard: the answer to a heartbeat; on the loop's thread.
    /// - Throws: what no waiting can heal: `conflict` (another process took this name), `unauthorised`, `invalidInput`.
    func run(
        heartbeat: @escaping @Sendable () -> Heartbeat, joined: @Sendable (Welcome) async throws(AccrueError) -> Void,
        heard: @escaping @Sendable (HeartbeatReply) -> Void
    ) async throws(AccrueError) {
        // From the first hello on, also while what follows it takes long.
        let timer = loop.timer(ms: Self.heartbeatMs, repeats: true) { [weak self] in self?.beat(heartbeat(), heard) }
        defer { loop.cancel(timer) }
        try await join(joined)
        for await event in events {
            switch event {
            case .join: try await join(joined)
            case .fail(let error): throw error
            }
        }
    }

    func stop() { announceEvent.finish() }

    private func join(_ joined: @Sendable (Welcome) async throws(AccrueError) -> Void) async throws(AccrueError) {
        var waitMs = 100
        while !Task.isCancelled {
            do throws(AccrueError) {
                // Before others are sent here: until then nobody is let in.
                try await refreshKeys()
                let welcome = try await control.ask(.hello, hello, as: Welcome.self, timeoutMs: 5_000)
                try connectBulk(welcome.endpoints.bulk)
                shared.withLock { shared in
                    shared.boot = welcome.boot
                    shared.heardAt = .now()
                }
                try await joined(welcome)
                shared.withLock { $0.isJoining = false }
                return
            } catch {
                guard error.code == .unavailable || error.code == .notFound else { throw error }
                if waitMs >= 1_600 { report("not joined yet: \(error.problem) (while \(error.operation))") }
            }
            // Jitter, so that a cluster does not come back all at once.
            try? await Task.sleep(for: .milliseconds(waitMs + Int.random(in: 0...waitMs / 2)))
            waitMs = min(waitMs * 2, 1_600)
        }
        throw AccrueError(.unavailable, while: "joining the coordinator", "this process is stopping")
    }

    private func connectBulk(_ endpoint: String) throws(AccrueError) {
        let number = shared.withLock { shared -> Int? in
            if shared.bulkEndpoint == endpoint { return nil }
            shared.bulkNumber += 1
            return shared.bulkNumber
        }
        guard let number else { return }
        let bulk = try Requester(loop, name: "bulk-\(number)", to: endpoint, traffic: .bulk, routingID: routingID)
        shared.withLock { shared in
            shared.bulk = bulk
            shared.bulkEndpoint = endpoint
        }
    }

    private func beat(_ heartbeat: Heartbeat, _ heard: @escaping @Sendable (HeartbeatReply) -> Void) {
        guard shared.withLock({ $0.heardAt != nil }), let message = try? Message(.heartbeat, encoding: heartbeat) else { return }
        control.request(message, timeoutMs: silenceMs, resendMs: silenceMs, patient: false) { [weak self] result in
            guard let self else { return }
            switch result {
            case .success(let message):
                guard let reply = try? message.read(HeartbeatReply.self) else { return }
                let wasLost = shared.withLock { shared in
                    let now = MonotonicTime.now()
                    defer { shared.heardAt = now }
                    return shared.boot != reply.boot || (shared.heardAt.map { now.ms(since: $0) > self.silenceMs } ?? true)
                }
                if wasLost { join() }
                if let ring, let hash = reply.keys, hash != ring.hash { askForKeys(into: ring) { _ in } }
                heard(reply)
            case .failure(let error):
                switch error.code {
                case .notFound: join()
                case .conflict, .unauthorised: announceEvent.yield(.fail(error))
                default: break
                }
            }
        }
    }

    private func refreshKeys() async throws(AccrueError) {
        guard let ring else { return }
        let error = await withCheckedContinuation { continuation in askForKeys(into: ring) { continuation.resume(returning: $0) } }
        if let error { throw error }
    }

    /// Lets in whom the coordinator lets in.
    private func askForKeys(into ring: KeyRing, done: @escaping @Sendable (AccrueError?) -> Void) {
        control.request(Message(.keys), timeoutMs: 5_000) { result in
            do throws(AccrueError) {
                ring.replace(try result.get().read(KeyListing.self).keys)
                done(nil)
            } catch { done(error) }
        }
    }

    /// Says hello again, and all that follows it; nothing if that is under way.
    func join() {
        let isFirst = shared.withLock { shared in
            defer { shared.isJoining = true }
            return !shared.isJoining
        }
        if isFirst { announceEvent.yield(.join) }
    }
}
