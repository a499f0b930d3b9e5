public import AccrueCore
import Dispatch
public import Foundation
import Synchronization

/// Requests and their answers over one DEALER socket.
///
/// Every request carries an id; without an answer the same request goes out again with the same id, and a refusal that says when to try again is
/// obeyed, until the request's time is over. That is safe because every request of the protocol is idempotent.
public final class Requester: Sendable {
    public typealias Completion = @Sendable (Result<Message, AccrueError>) -> Void

    public let endpoint: String
    /// The endpoint without its key, for people.
    let address: String
    private let loop: SocketLoop
    private let socket: String
    private let nonce = UUID().uuidString.prefix(8).lowercased()
    private let pending = Mutex(PendingRequests())

    /// How often waiting requests are looked at while there are any, and once more: who asks again at once wakes no thread for it.
    private static let tickMs = 20

    /// Connects; the peer need not be there yet.
    /// - Parameters:
    ///   - name: of the socket, unique in its loop.
    ///   - unasked: what arrives that answers no request, such as leases; on the loop's thread.
    public init(
        _ loop: SocketLoop, name: String, to endpoint: String, traffic: SocketLoop.Traffic = .control, routingID: Data? = nil,
        unasked: @escaping @Sendable (Message) -> Void = { _ in }
    ) throws(AccrueError) {
        self.loop = loop
        self.endpoint = endpoint
        address = KeyedEndpoint.address(of: endpoint)
        socket = name
        // The closure needs `self`, which is whole only now.
        let link = WeakLink()
        try loop.connect(name, to: endpoint, traffic: traffic, routingID: routingID) { incoming in
            guard let requester = link.requester.withLock({ $0.value }), requester.receive(incoming.message) else {
                if incoming.message.known != .reply, incoming.message.known != .refuse { unasked(incoming.message) }
                return .taken
            }
            return .taken
        }
        link.requester.withLock { $0.value = self }
    }

    deinit { loop.close(socket) }

    /// Sends a request; `completion` is called once, on the loop's thread or, when the message cannot be sent at all, on this one.
    /// - Parameters:
    ///   - timeoutMs: after this the request fails with `unavailable`; its outcome is unknown then.
    ///   - resendMs: without an answer the request is sent again after this, then after twice as long, ….
    ///   - patient: whether refusals that say when to try again are obeyed, or passed on.
    public func request(
        _ message: Message, timeoutMs: Int = 10_000, resendMs: Int = 1_000, patient: Bool = true, completion: @escaping Completion
    ) {
        submit(message, id: nextID(), timeoutMs, resendMs, patient, completion)
    }

    private func nextID() -> String { pending.withLock { "\(nonce)-\($0.nextNumber())" } }

    private func submit(_ message: Message, id: String, _ timeoutMs: Int, _ resendMs: Int, _ patient: Bool, _ completion: @escaping Completion) {
        let now = MonotonicTime.now()
        let needsTick = pending.withLock { pending in
            var message = message
            message.add(id: id)
            pending.add(
                PendingRequests.Entry(
                    message: message, deadline: now.adding(ms: timeoutMs), timeoutMs: timeoutMs, resendAt: now.adding(ms: resendMs), resendMs: resendMs,
                    patient: patient, completion: completion), id: id)
            return pending.beginTicking()
        }
        transmit(id)
        if needsTick { scheduleTick() }
    }

    /// Sends a request and waits for its answer.
    /// - Throws: the error of a refusal; `unavailable` when no answer came in time or the task was cancelled; `limitExceeded` when it is too large.
    public func request(_ message: Message, timeoutMs: Int = 10_000, resendMs: Int = 1_000, patient: Bool = true) async throws(AccrueError) -> Message {
        let id = nextID()
        let cancelled = AccrueError(.unavailable, while: "asking \(address) to '\(message.verb)'", "the request was given up before its answer came")
        let result = await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                submit(message, id: id, timeoutMs, resendMs, patient) { continuation.resume(returning: $0) }
                if Task.isCancelled { fail(id, cancelled) }
            }
        } onCancel: {
            fail(id, cancelled)
        }
        return try result.get()
    }

    /// Fails every request that waits, for when the peer is known to be gone.
    public func abandon(_ error: AccrueError) {
        for entry in pending.withLock({ $0.takeAll() }) { entry.completion(.failure(error)) }
    }

    private func fail(_ id: String, _ error: AccrueError) { pending.withLock({ $0.remove(id) })?.completion(.failure(error)) }

    /// Sends a request and reads its answer.
    public func ask<Answer: Decodable & Sendable>(
        _ verb: Verb, _ header: some Encodable, as _: Answer.Type = Answer.self, timeoutMs: Int = 10_000
    ) async throws(AccrueError) -> Answer {
        try await request(try Message(verb, encoding: header), timeoutMs: timeoutMs).read()
    }

    /// Sends a request and blocks this thread until its answer is there. For threads of one's own: never on the cooperative pool, never on the loop's.
    public func requestAndWait(_ message: Message, timeoutMs: Int = 10_000, resendMs: Int = 1_000, patient: Bool = true) throws(AccrueError) -> Message {
        let done = DispatchSemaphore(value: 0)
        let box = Mutex<Result<Message, AccrueError>?>(nil)
        request(message, timeoutMs: timeoutMs, resendMs: resendMs, patient: patient) { result in
            box.withLock { $0 = result }
            done.signal()
        }
        done.wait()
        guard let result = box.withLock({ $0 }) else { throw PendingRequests.noAnswer(to: message.verb, at: address, afterMs: timeoutMs) }
        return try result.get()
    }

    private func transmit(_ id: String) {
        guard let message = pending.withLock({ $0.message(id) }) else { return }
        do { try loop.send(message, on: socket) } catch { fail(id, error) }
    }

    /// - Returns: whether the message answered a request.
    private func receive(_ message: Message) -> Bool {
        guard let id = message.id, message.known == .reply || message.known == .refuse else { return false }
        let refusal = message.refusal
        let entry = pending.withLock { pending -> PendingRequests.Entry? in
            if let after = refusal?.retryAfterMs, refusal?.code == .unavailable, pending.postpone(id, ms: after, at: MonotonicTime.now()) { return nil }
            return pending.remove(id)
        }
        entry?.completion(refusal.map { .failure($0) } ?? .success(message))
        return true
    }

    private func scheduleTick() { loop.timer(ms: Self.tickMs) { [weak self] in self?.tick() } }

    private func tick() {
        let now = MonotonicTime.now()
        let (expired, due, more) = pending.withLock { pending in
            let expired = pending.takeExpired(at: now)
            return (expired, pending.takeDue(at: now), pending.ticksOn())
        }
        for entry in expired {
            entry.completion(.failure(PendingRequests.noAnswer(to: entry.message.verb, at: address, afterMs: entry.timeoutMs)))
        }
        for id in due { transmit(id) }
        if more { scheduleTick() }
    }
}

/// Lets a closure made before a requester find it later without keeping it alive.
private final class WeakLink: Sendable {
    struct Reference { weak var value: Requester? }
    let requester = Mutex(Reference())
}
