import AccrueCore
import AccrueWire
import Foundation

/// A push that was checked.
struct CheckedPush: Sendable {
    var chunk: LogEntry.Chunk
    var bytes: Data
    /// SHA-256 of the bytes, if the producer said it.
    var hash: ContentHash?
    var pipeline: PipelineRecord
    var request: Ingest.Request
    /// Where its bytes were laid down.
    var room: SpoolRoom?

    var key: SpoolKey { SpoolKey(incarnation: pipeline.incarnation, identity: chunk.identity) }
    var operation: String { "taking a chunk of pipeline '\(pipeline.declaration.name)'" }
}

// From a checked push to its acknowledgement: on disk here, on other disks if the pipeline wants replicas, and in the coordinator's log.
extension Ingest {
    func store(_ push: CheckedPush) {
        guard !push.request.isReplica, let replicas = push.pipeline.declaration.replicas, replicas > 1 else { return keep(push, others: []) }
        Task {
            // First, so that a push that cannot be taken leaves nothing on the disk.
            do throws(AccrueError) { keep(push, others: try await replication.others(for: replicas, while: push.operation)) } catch { refuse(push.request, error) }
        }
    }

    /// - Parameter others: workers that can take a replica.
    private func keep(_ push: CheckedPush, others: [String]) {
        let key = push.key
        // From here until the answer the bytes must not go, whatever was decided about an earlier push of them.
        spool.pin(key)
        spool.append(push.chunk, incarnation: push.pipeline.incarnation, bytes: push.bytes, room: push.room) { [weak self] result in
            guard let self else { return }
            switch result {
            case .success where push.request.isReplica: kept(push)
            case .success(let stored) where others.isEmpty: announce(push, isNew: stored == .written)
            case .success(let stored):
                Task {
                    do throws(AccrueError) {
                        announce(push, isNew: stored == .written, replicas: try await replication.copy(push, to: others))
                        announcer.flush()
                    } catch {
                        spool.unpin(key)
                        if stored == .written { spool.drop(key, onlyUnknown: true) }
                        refuse(push.request, error)
                    }
                }
            case .failure(let error):
                spool.unpin(key)
                refuse(push.request, error)
            }
        }
    }

    /// A replica is on this disk. It stays pinned until its announcement is over, of which this worker does not hear.
    private func kept(_ push: CheckedPush) {
        let request = push.request, key = push.key
        do throws(AccrueError) { answer(request, try .reply(request.id, encoding: Replica(worker: worker, boot: boot))) } catch { refuse(request, error) }
        DispatchQueue.global().asyncAfter(deadline: .now() + .milliseconds(3 * Announcer.timeoutMs)) { [spool] in spool.unpin(key) }
    }

    /// Goes with what is durable by the same sync, by the announcer's next flush.
    /// - Parameters:
    ///   - isNew: this push is what brought the chunk to the disk.
    ///   - replicas: other workers that hold it.
    private func announce(_ push: CheckedPush, isNew: Bool, replicas: [Replica] = []) {
        announcer.announce(.init(push.chunk, replicas: replicas.isEmpty ? nil : replicas), of: push.pipeline) { [weak self] result in
            guard let self else { return }
            let key = push.key, request = push.request
            do throws(AccrueError) {
                let acknowledgement = try result.get()
                spool.markKnown(key)
                spool.unpin(key)
                acknowledge(request, acknowledgement)
            } catch {
                spool.unpin(key)
                switch error.code {
                case .notFound: refuseUnknown(request, error, push.pipeline)
                case .conflict, .invalidInput, .limitExceeded:
                    // Never to be in the log; what was kept for it would come back with the next inventory. What was here before this push may be in
                    // the log by an earlier one, acknowledged to somebody: only the coordinator says when that may go.
                    if isNew { spool.drop(key, onlyUnknown: true) }
                    refuse(request, error)
                default: refuse(request, error)
                }
            }
        }
    }

    /// The coordinator does not know the incarnation, because the pipeline is gone or was made anew since this worker last heard; or it does not know
    /// this worker, because it was started anew just now. The chunk stays: the next inventory tells.
    private func refuseUnknown(_ request: Request, _ error: AccrueError, _ old: PipelineRecord) {
        let name = old.declaration.name
        pipelines.refresh { [weak self] failure in
            guard let self else { return }
            if let failure { return refuse(request, failure) }
            guard let now = pipelines[name] else { return refuse(request, error) }
            let problem = now.incarnation == old.incarnation ? "this worker is just joining the coordinator" : "the pipeline was deleted and made anew just now"
            let retry = AccrueError(.unavailable, while: "taking a chunk of pipeline '\(name)'", problem, hint: "send it again", retryAfterMs: 300)
            refuse(request, retry)
        }
    }
}
