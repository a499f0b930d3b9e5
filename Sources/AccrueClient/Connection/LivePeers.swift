import AccrueCore
import AccrueWire
import Foundation

/// A kind of process that does the same whichever of its kind is asked.
enum PeerKind: Sendable {
    case ingest, query

    func endpoints(_ endpoints: Endpoints) -> [String] { self == .ingest ? endpoints.ingest : endpoints.query }
    var traffic: SocketLoop.Traffic { self == .ingest ? .bulk : .control }
    var process: String { self == .ingest ? "worker" : "querier" }
}

extension ClusterConnection {
    /// How often the coordinator is asked whether a process that has not answered yet still lives.
    private static let watchMs = 1_000
    /// Between two attempts.
    private static let pauseMs = 100

    /// Does work with a live process of a kind and, when that one dies or cannot, with another.
    ///
    /// The work must be safe to repeat. It lasts as long as the process lives, by what the coordinator says; without any that lives, or without a
    /// coordinator, it fails after its patience.
    /// - Parameter turn: which of the live ones to begin with, so that work spreads over them.
    /// - Throws: what the work throws other than `unavailable`; `unavailable` when nobody can do it.
    func withLive<Answer: Sendable>(
        _ kind: PeerKind, turn: Int, while operation: String, _ work: @escaping @Sendable (Requester) async throws(AccrueError) -> Answer
    ) async throws(AccrueError) -> Answer {
        var turn = turn
        var failingSince: MonotonicTime?
        // Who said no, and gave no time at which to ask again.
        var refusers: Set<String> = []
        while true {
            let candidates = kind.endpoints(endpoints).filter { !refusers.contains($0) }
            var failure = AccrueError(
                .unavailable, while: operation, "no \(kind.process) is there", hint: "look at 'accrue status'; start one with 'accrue \(kind.process == "worker" ? "worker" : "serve")'")
            if !candidates.isEmpty {
                let peer = try requester(to: candidates[turn % candidates.count], traffic: kind.traffic)
                do throws(AccrueError) { return try await watched(peer, kind, work) } catch {
                    guard error.code == .unavailable, !Task.isCancelled else { throw error }
                    failure = error
                    turn += 1
                    if error.retryAfterMs == nil { refusers.insert(peer.endpoint) }
                }
            }
            let now = MonotonicTime.now()
            let since = failingSince ?? now
            failingSince = since
            let all = kind.endpoints((try? await refresh()) ?? endpoints)
            let nobodyLeft = !all.isEmpty && refusers.isSuperset(of: all)
            guard !nobodyLeft, now.ms(since: since) < patience.absenceMs else { throw failure }
            try? await Task.sleep(for: .milliseconds(Self.pauseMs))
            if Task.isCancelled { throw failure }
        }
    }

    /// Does work with one process, and gives it up when the coordinator no longer counts the process among the living.
    ///
    /// One task watches for all work at a process, and a little longer: most work is over long before it looks.
    private func watched<Answer: Sendable>(
        _ peer: Requester, _ kind: PeerKind, _ work: @escaping @Sendable (Requester) async throws(AccrueError) -> Answer
    ) async throws(AccrueError) -> Answer {
        if beginWork(at: peer.endpoint) { Task { await watch(peer.endpoint, kind) } }
        defer { endWork(at: peer.endpoint) }
        return try await work(peer)
    }

    /// Returns when no work is left.
    private func watch(_ peer: String, _ kind: PeerKind) async {
        var heardAt = MonotonicTime.now()
        while true {
            try? await Task.sleep(for: .milliseconds(Self.watchMs))
            if endWatch(of: peer) { return }
            var problem: String?
            if let endpoints = try? await refresh() {
                heardAt = .now()
                if !kind.endpoints(endpoints).contains(peer) { problem = "the \(kind.process) there is gone" }
            } else if MonotonicTime.now().ms(since: heardAt) > patience.absenceMs {
                problem = "neither it nor the coordinator at \(endpoint) has answered for \(patience.absenceMs / 1_000) s"
            }
            guard let problem else { continue }
            forget(peer, because: AccrueError(
                .unavailable, while: "asking \(peer)", problem, hint: "look at 'accrue status'; sending the same again is safe", retryAfterMs: Self.pauseMs))
        }
    }
}
