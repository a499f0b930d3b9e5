import AccrueCore
import AccrueWire

/// A process's requests to one other end, as `Requester` makes them: sent again with the same id until answered or given up.
final class Requests {
    typealias Completion = (Result<Message, AccrueError>) -> Void

    private struct Entry {
        var message: Message
        var deadlineMs: Int
        var resendAtMs: Int
        var resendMs: Int
        var patient: Bool
        var completion: Completion
    }

    private unowned let world: World
    private let from: String
    private let to: String
    private let nonce: String
    private let inOrder: Bool
    private var entries: [Int: Entry] = [:]
    private var number = 0

    init(_ world: World, from: String, to: String, nonce: String, inOrder: Bool = false) {
        self.world = world
        self.from = from
        self.to = to
        self.nonce = "\(nonce)-\(to)-"
        self.inOrder = inOrder
    }

    func ask(_ message: Message, timeoutMs: Int = 10_000, resendMs: Int = 1_000, patient: Bool = true, _ completion: @escaping Completion) {
        number += 1
        var message = message
        if case .object(var fields) = message.header {
            fields["id"] = .string(nonce + String(number))
            message.header = .object(fields)
        }
        let now = world.agenda.nowMs
        entries[number] = Entry(
            message: message, deadlineMs: now + timeoutMs, resendAtMs: now + resendMs, resendMs: resendMs, patient: patient, completion: completion)
        transmit(message)
        wake(number)
    }

    func ask<Answer: Decodable>(_ verb: Verb, _ header: some Encodable, timeoutMs: Int = 10_000, _ completion: @escaping (Result<Answer, AccrueError>) -> Void) {
        guard let message = try? Message(verb, encoding: header) else { return world.violated("a header cannot be written") }
        ask(message, timeoutMs: timeoutMs) { result in
            completion(result.flatMap { message in
                do throws(AccrueError) { return .success(try message.read()) } catch { return .failure(error) }
            })
        }
    }

    /// - Returns: whether the message answered one of these requests.
    func receive(_ message: Message) -> Bool {
        guard let id = message.id, id.hasPrefix(nonce), let number = Int(id.dropFirst(nonce.count)) else { return false }
        guard let entry = entries[number] else { return true }
        let refusal = message.refusal
        if let refusal, refusal.code == .unavailable, let after = refusal.retryAfterMs, entry.patient, world.agenda.nowMs + after < entry.deadlineMs {
            entries[number]?.resendAtMs = world.agenda.nowMs + after
            wake(number)
            return true
        }
        entries[number] = nil
        entry.completion(refusal.map { .failure($0) } ?? .success(message))
        return true
    }

    /// The process is gone.
    func end() { entries = [:] }

    private func transmit(_ message: Message) { world.network.send(message, from: from, to: to, inOrder: inOrder) }

    private func wake(_ number: Int) {
        guard let entry = entries[number] else { return }
        world.agenda.after(min(entry.deadlineMs, entry.resendAtMs) - world.agenda.nowMs) { [weak self] in self?.look(number) }
    }

    private func look(_ number: Int) {
        guard var entry = entries[number] else { return }
        let now = world.agenda.nowMs
        if entry.deadlineMs <= now {
            entries[number] = nil
            return entry.completion(.failure(AccrueError(.unavailable, while: "asking \(to) to '\(entry.message.verb)'", "no answer", retryAfterMs: 1_000)))
        }
        guard entry.resendAtMs <= now else { return }
        entry.resendMs = min(entry.resendMs * 2, 30_000)
        entry.resendAtMs = now + entry.resendMs
        entries[number] = entry
        transmit(entry.message)
        wake(number)
    }
}
