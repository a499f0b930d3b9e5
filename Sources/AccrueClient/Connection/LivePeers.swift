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
    private func watched<Answer: Sendable>(
        _ peer: Requester, _ kind: PeerKind, _ work: @escaping @Sendable (Requester) async throws(AccrueError) -> Answer
    ) async throws(AccrueError) -> Answer {
        let result = await withTaskGroup(of: Result<Answer, AccrueError>?.self) { group in
            group.addTask {
                do throws(AccrueError) { return .success(try await work(peer)) } catch { return .failure(error) }
            }
            group.addTask {
                await self.watch(peer, kind)
                return nil
            }
            var result: Result<Answer, AccrueError>?
            for await end in group {
                guard let end else { continue }
                result = end
                group.cancelAll()
            }
            return result
        }
        guard let result else { throw AccrueError(.unavailable, while: "asking \(peer.endpoint)", "the request was given up") }
        return try result.get()
    }

    /// Returns when the process is given up, or when this task is cancelled.
    private func watch(_ peer: Requester, _ kind: PeerKind) async {
        var heardAt = MonotonicTime.now()
        func giveUp(_ problem: String) {
            let error = AccrueError(
                .unavailable, while: "asking \(peer.endpoint)", problem, hint: "look at 'accrue status'; sending the same again is safe", retryAfterMs: Self.pauseMs)
            forget(peer, because: error)
        }
        while true {
            try? await Task.sleep(for: .milliseconds(Self.watchMs))
            if Task.isCancelled { return }
            if let endpoints = try? await refresh() {
                heardAt = .now()
                guard kind.endpoints(endpoints).contains(peer.endpoint) else { return giveUp("the \(kind.process) there is gone") }
            } else if MonotonicTime.now().ms(since: heardAt) > patience.absenceMs {
                return giveUp("neither it nor the coordinator at \(endpoint) has answered for \(patience.absenceMs / 1_000) s")
            }
        }
    }
}
