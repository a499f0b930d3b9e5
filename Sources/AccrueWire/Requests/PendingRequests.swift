import AccrueCore
import Foundation

/// Requests that wait for an answer, and when each is sent again or given up.
struct PendingRequests {
    struct Entry {
        var message: Message
        var deadline: MonotonicTime
        var timeoutMs: Int
        var resendAt: MonotonicTime
        var resendMs: Int
        var patient: Bool
        var completion: Requester.Completion
    }

    private var entries: [String: Entry] = [:]
    private var number = 0

    private var isTicking = false

    /// - Returns: whether nobody looks at the requests yet: then somebody must from now on.
    mutating func beginTicking() -> Bool {
        defer { isTicking = true }
        return !isTicking
    }

    /// - Returns: whether there is anything to look at again.
    mutating func ticksOn() -> Bool {
        isTicking = !entries.isEmpty
        return isTicking
    }

    mutating func nextNumber() -> Int {
        number += 1
        return number
    }

    mutating func add(_ entry: Entry, id: String) { entries[id] = entry }
    func message(_ id: String) -> Message? { entries[id]?.message }
    mutating func remove(_ id: String) -> Entry? { entries.removeValue(forKey: id) }

    mutating func takeAll() -> [Entry] {
        defer { entries = [:] }
        return Array(entries.values)
    }

    /// Sends a refused request again later; false when it is to fail now.
    mutating func postpone(_ id: String, ms: Int, at now: MonotonicTime) -> Bool {
        guard let entry = entries[id], entry.patient else { return false }
        // Jitter, so that those who were refused together do not come back together.
        let wait = max(1, ms) + Int.random(in: 0...max(1, ms) / 2)
        guard now.adding(ms: wait) < entry.deadline else { return false }
        entries[id]?.resendAt = now.adding(ms: wait)
        return true
    }

    mutating func takeExpired(at now: MonotonicTime) -> [Entry] {
        let ids = entries.filter { $0.value.deadline <= now }.map(\.key)
        return ids.compactMap { entries.removeValue(forKey: $0) }
    }

    /// The requests to send again now; each is due again after twice its last wait.
    mutating func takeDue(at now: MonotonicTime) -> [String] {
        let ids = entries.filter { $0.value.resendAt <= now }.map(\.key)
        for id in ids {
            guard var entry = entries[id] else { continue }
            entry.resendMs = min(entry.resendMs * 2, 30_000)
            entry.resendAt = now.adding(ms: entry.resendMs)
            entries[id] = entry
        }
        return ids
    }

    static func noAnswer(to verb: String, at endpoint: String, afterMs: Int) -> AccrueError {
        AccrueError(
            .unavailable, while: "asking \(endpoint) to '\(verb)'", "no answer within \(afterMs) ms; whether it was done is unknown",
            hint: "check that the other side runs; sending the same again is safe", retryAfterMs: 1_000)
    }
}
