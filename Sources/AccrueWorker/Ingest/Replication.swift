import AccrueCore
import AccrueWire
import Foundation
import Synchronization

/// Copies chunks to other workers before they are announced, for pipelines that keep several replicas.
///
/// Which workers are alive the coordinator says, in its answer to a `hello`; it is asked again when the answer is older than a second.
final class Replication: Sendable {
    private static let freshMs = 1_000
    /// A worker that is alive answers sooner, also with its disk busy; the producer waits for this.
    private static let timeoutMs = 10_000

    private let ownEndpoint: String
    private let control: Requester
    private let peers: PeerRequesters
    private let known = Mutex<(endpoints: [String], at: MonotonicTime)?>(nil)
    /// The question that is under way, for all who would ask it now.
    private let asking = Mutex<Task<Result<[String], AccrueError>, Never>?>(nil)

    /// - Parameter ownEndpoint: as this worker tells it to others.
    init(ownEndpoint: String, control: Requester, peers: PeerRequesters) {
        self.ownEndpoint = ownEndpoint
        self.control = control
        self.peers = peers
    }

    /// The ingest endpoints of other workers that are alive.
    /// - Throws: `unavailable` when there are fewer than a pipeline with so many replicas needs, or the coordinator does not answer.
    func others(for replicas: Int, while operation: String) async throws(AccrueError) -> [String] {
        let now = MonotonicTime.now()
        if let known = known.withLock({ $0 }), now.ms(since: known.at) < Self.freshMs, known.endpoints.count >= replicas - 1 { return known.endpoints }
        let others = try await ask(now)
        guard others.count >= replicas - 1 else { throw Self.tooFew(1 + others.count, of: replicas, while: operation) }
        return others
    }

    private func ask(_ now: MonotonicTime) async throws(AccrueError) -> [String] {
        let question = asking.withLock { asking in
            if let asking { return asking }
            let question = Task { [self] () -> Result<[String], AccrueError> in
                defer { self.asking.withLock { $0 = nil } }
                do throws(AccrueError) {
                    let welcome = try await control.ask(.hello, Hello(role: .client), as: Welcome.self, timeoutMs: Self.timeoutMs)
                    let others = welcome.endpoints.ingest.filter { $0 != ownEndpoint }
                    known.withLock { $0 = (others, now) }
                    return .success(others)
                } catch { return .failure(error) }
            }
            asking = question
            return question
        }
        return try await question.value.get()
    }

    /// Puts a chunk's bytes on other workers' disks.
    /// - Parameter others: candidates; those behind the first are tried when one in front fails.
    /// - Returns: where it is now: `replicas` − 1 workers.
    /// - Throws: `unavailable` when fewer take it.
    func copy(_ push: CheckedPush, to others: [String]) async throws(AccrueError) -> [Replica] {
        let replicas = push.pipeline.declaration.replicas ?? 1
        var holders: [Replica] = []
        // Chunks are spread over the others by their content, so that no worker gets the copies of all.
        let start = (Int(push.chunk.identity.hex.prefix(4), radix: 16) ?? 0) % max(1, others.count)
        for endpoint in others[start...] + others[..<start] where holders.count < replicas - 1 {
            do { holders.append(try await copy(push, to: endpoint)) } catch {
                if error.code == .unavailable { peers.forget(endpoint) }
            }
        }
        guard holders.count == replicas - 1 else {
            known.withLock { $0 = nil }
            throw Self.tooFew(1 + holders.count, of: replicas, while: push.operation)
        }
        return holders
    }

    private func copy(_ push: CheckedPush, to endpoint: String) async throws(AccrueError) -> Replica {
        let header = Push(
            pipeline: push.pipeline.declaration.name, incarnation: push.pipeline.incarnation, key: push.chunk.key, hash: push.hash ?? ContentHash(of: push.bytes))
        return try await peers.requester(to: endpoint).sendChunk(push.bytes, as: .replicate, header: header, timeoutMs: Self.timeoutMs).read()
    }

    private static func tooFew(_ count: Int, of replicas: Int, while operation: String) -> AccrueError {
        AccrueError(
            .unavailable, while: operation, "the pipeline wants each chunk with \(replicas) workers, and \(count) could take it",
            hint: "start another worker with 'accrue worker', or wait until one is back", retryAfterMs: 1_000)
    }
}
