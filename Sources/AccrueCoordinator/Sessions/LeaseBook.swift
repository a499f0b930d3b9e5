import AccrueCore
import AccrueWire

/// Which piece of work is with whom, and what is known against giving it again.
struct LeaseBook: Sendable {
    struct Held: Sendable {
        var worker: String
        var step: Int?
        /// When its step counter last moved.
        var movedAt: MonotonicTime
    }

    private(set) var held: [LeaseIdentity: Held] = [:]
    private var notBefore: [LeaseIdentity: MonotonicTime] = [:]
    /// How often the surroundings failed a lease, and how the last time.
    private var failures: [LeaseIdentity: (count: Int, problem: String)] = [:]
    private var deaths: [LeaseIdentity: Int] = [:]
    /// The first worker on which the method itself failed, the message that said so, and the error: a second run must confirm it.
    private var methodErrors: [LeaseIdentity: (worker: String, message: Asker, error: AccrueError)] = [:]

    mutating func give(_ lease: LeaseIdentity, to worker: String, at now: MonotonicTime) { held[lease] = Held(worker: worker, movedAt: now) }

    /// - Returns: whether this worker held the lease.
    mutating func end(_ lease: LeaseIdentity, of worker: String) -> Bool {
        guard held[lease]?.worker == worker else { return false }
        held[lease] = nil
        return true
    }

    mutating func moved(_ lease: LeaseIdentity, _ step: Int?, at now: MonotonicTime) {
        guard let held = held[lease], held.step != step else { return }
        self.held[lease]?.step = step
        self.held[lease]?.movedAt = now
    }

    func stalled(at now: MonotonicTime, afterMs: Int) -> [(lease: LeaseIdentity, worker: String)] {
        held.filter { now.ms(since: $0.value.movedAt) >= afterMs }.map { ($0.key, $0.value.worker) }
    }

    func mayGive(_ lease: LeaseIdentity, at now: MonotonicTime) -> Bool { held[lease] == nil && (notBefore[lease].map { $0 <= now } ?? true) }

    /// The worker that is not to have this lease while there is another.
    func avoids(_ lease: LeaseIdentity) -> String? { methodErrors[lease]?.worker }

    mutating func postpone(_ lease: LeaseIdentity, for problem: String, at now: MonotonicTime, _ timing: CoordinatorTiming) {
        let count = failures[lease]?.count ?? 0
        failures[lease] = (count + 1, problem)
        notBefore[lease] = now.adding(ms: min(timing.againMaxMs, timing.againMs << min(count, 10)))
    }

    /// Why an incarnation's work does not get on, when a lease of it has failed again and again.
    func trouble(incarnation: String) -> String? {
        let known = failures.filter { $0.key.incarnation == incarnation && $0.key.phase != .check && $0.value.count >= Self.failuresOfTrouble }
        // Always the same one of several.
        return known.min { ($0.key.sweep, $0.key.shard) < ($1.key.sweep, $1.key.shard) }.map { "its work fails again and again: \($0.value.problem)" }
    }
    private static let failuresOfTrouble = 3

    mutating func died(_ lease: LeaseIdentity) -> Int {
        deaths[lease, default: 0] += 1
        return deaths[lease] ?? 0
    }

    mutating func forgive(_ lease: LeaseIdentity) { if let count = deaths[lease] { deaths[lease] = max(0, count - 1) } }

    /// Notes an error of the method.
    /// - Parameter message: the same message again confirms nothing.
    /// - Returns: the first error when this one confirms it.
    mutating func methodFailed(_ lease: LeaseIdentity, on worker: String, _ message: Asker, _ error: AccrueError) -> AccrueError? {
        if let first = methodErrors[lease] { return first.message == message ? nil : first.error }
        methodErrors[lease] = (worker, message, error)
        return nil
    }

    /// Forgets everything about leases of an incarnation, or one lease of it.
    /// - Returns: those that are held, to be cancelled.
    mutating func forget(incarnation: String, only lease: LeaseIdentity? = nil) -> [(lease: LeaseIdentity, worker: String)] {
        func concerns(_ other: LeaseIdentity) -> Bool { other.incarnation == incarnation && (lease == nil || lease == other) }
        let ended = held.filter { concerns($0.key) }.map { ($0.key, $0.value.worker) }
        held = held.filter { !concerns($0.key) }
        notBefore = notBefore.filter { !concerns($0.key) }
        failures = failures.filter { !concerns($0.key) }
        deaths = deaths.filter { !concerns($0.key) }
        methodErrors = methodErrors.filter { !concerns($0.key) }
        return ended
    }

    func workers(incarnation: String) -> Int { held.reduce(0) { $0 + ($1.key.incarnation == incarnation ? 1 : 0) } }
}
