import AccrueCore
import AccrueTesting
import AccrueWire
import AccrueWorker
import Foundation

/// A lease that a worker works on.
final class RunningLease {
    let task: LeaseTask
    var isCancelled = false
    /// It makes no step any more; only a cancel ends it.
    var hungAtMs: Int?
    private let begunAtMs: Int

    init(_ task: LeaseTask, at nowMs: Int) {
        self.task = task
        begunAtMs = nowMs
    }

    func step(_ nowMs: Int) -> Int { (min(nowMs, hungAtMs ?? nowMs) - begunAtMs) / 50 }
}

// Leases, one after the other, as `Learner` works on them.
extension WorkerProcess {
    func offer(_ task: LeaseTask) {
        guard running?.task.identity != task.identity, !waiting.contains(where: { $0.identity == task.identity }), waiting.count < 4 else { return }
        waiting.append(task)
        workOn()
    }

    func cancel(_ lease: LeaseIdentity) {
        waiting.removeAll { $0.identity == lease }
        guard let running, running.task.identity == lease else { return }
        running.isCancelled = true
        if running.hungAtMs != nil { finished() }
    }

    func joined(boot: String) {
        isJoined = true
        waiting.removeAll { $0.identity.boot != boot }
        if let running, running.task.identity.boot != boot { cancel(running.task.identity) }
        askIfIdle(afterMs: 0)
    }

    func askIfIdle(afterMs: Int) {
        let now = world.agenda.nowMs
        guard isJoined, running == nil, waiting.isEmpty, now - (askedAtMs ?? -10_000) >= afterMs else { return }
        askedAtMs = now
        if let message = try? Message(.ready, encoding: Ready(worker: name)) { control.ask(message, timeoutMs: 3_000) { _ in } }
    }

    private func workOn() {
        guard running == nil, !waiting.isEmpty else { return }
        let lease = RunningLease(waiting.removeFirst(), at: world.agenda.nowMs)
        running = lease
        gather(lease)
    }

    private func finished() {
        running = nil
        if waiting.isEmpty { askIfIdle(afterMs: 0) } else { workOn() }
    }

    /// Goes on with a lease, unless it was cancelled.
    private func going(_ lease: RunningLease, _ action: () -> Void) {
        guard running === lease else { return }
        if lease.isCancelled { finished() } else { action() }
    }

    private func gather(_ lease: RunningLease) {
        let task = lease.task
        let missing = ([task.base, task.imported, task.work].compactMap(\.self) + task.parts.map(\.blob)).first { blobs[$0] == nil }
        guard let missing else { return gatherRows(lease, task.rows, locations: nil) }
        guard let message = try? Message(.blobGet, encoding: BlobGet(hash: missing, offset: 0, length: 1 << 20)) else { return }
        bulk.ask(message, timeoutMs: 5_000) { [weak self] result in
            guard let self else { return }
            going(lease) {
                switch result {
                case .failure(let error): failed(lease, .environment, error)
                case .success(let reply):
                    guard let bytes = reply.payload.first, ContentHash(of: bytes) == missing else { return world.violated("a blob came with other content") }
                    blobs[missing] = bytes
                    gather(lease)
                }
            }
        }
    }

    private func gatherRows(_ lease: RunningLease, _ ranges: [RowRange], locations: [String]?) {
        guard let range = ranges.first else { return compute(lease) }
        let incarnation = lease.task.identity.incarnation
        if worker.spool[SpoolPlace(incarnation: incarnation, identity: range.identity)] != nil { return gatherRows(lease, Array(ranges.dropFirst()), locations: nil) }
        let left = locations ?? lease.task.locations[range.identity.hex] ?? []
        guard let peer = left.first else {
            return failed(lease, .environment, AccrueError(.unavailable, while: "gathering rows", "nobody gives chunk \(range.identity.short)", position: range.position))
        }
        guard let message = try? Message(.fetch, encoding: Fetch(incarnation: incarnation, identity: range.identity, offset: 0, length: 1)) else { return }
        requests(to: peer).ask(message, timeoutMs: 4_000) { [weak self] result in
            guard let self else { return }
            going(lease) {
                switch result {
                case .failure: gatherRows(lease, ranges, locations: Array(left.dropFirst()))
                case .success: gatherRows(lease, Array(ranges.dropFirst()), locations: nil)
                }
            }
        }
    }

    private func compute(_ lease: RunningLease) {
        if world.hangs() { lease.hungAtMs = world.agenda.nowMs }
        guard lease.hungAtMs == nil else { return }
        later(world.dice.number(world.workMs)) { [weak self] in
            guard let self else { return }
            going(lease) {
                do throws(AccrueError) { put(lease, try world.perform(lease.task, blobs)) } catch {
                    world.witness.methodFailed(lease.task)
                    failed(lease, .method, error)
                }
            }
        }
    }

    private func put(_ lease: RunningLease, _ product: LeaseExecution.Product) {
        guard let bytes = product.blob, let kind = product.kind else { return done(lease, product, nil) }
        let hash = ContentHash(of: bytes)
        let header = BlobPut(hash: hash, kind: kind, offset: 0, totalBytes: bytes.count)
        guard let message = try? Message(.blobPut, encoding: header, payload: [bytes]) else { return }
        bulk.ask(message, timeoutMs: 5_000) { [weak self] result in
            guard let self else { return }
            going(lease) {
                switch result {
                case .failure(let error): failed(lease, .environment, error)
                case .success:
                    blobs[hash] = bytes
                    done(lease, product, hash)
                }
            }
        }
    }

    private func done(_ lease: RunningLease, _ product: LeaseExecution.Product, _ blob: ContentHash?) {
        say(
            lease, .done,
            LeaseDone(worker: name, lease: lease.task.identity, blob: blob, score: product.score, report: product.report, phases: product.phases))
    }

    private func failed(_ lease: RunningLease, _ kind: LeaseFailed.Kind, _ error: AccrueError) {
        say(lease, .failed, LeaseFailed(worker: name, lease: lease.task.identity, kind: kind, error: error))
    }

    private func say(_ lease: RunningLease, _ verb: Verb, _ header: some Encodable) {
        guard let message = try? Message(verb, encoding: header) else { return world.violated("'\(verb.rawValue)' cannot be written") }
        control.ask(message, timeoutMs: 30_000) { [weak self] _ in
            guard let self, running === lease else { return }
            finished()
        }
    }
}
