import AccrueCore
import AccrueWire
import Foundation

// From a checked chunk to its acknowledgement: on disk here, on other disks if the pipeline wants replicas, and in the coordinator's log.
extension Ingest {
    func store(_ chunk: LogEntry.Chunk, _ bytes: Data, _ pipeline: PipelineRecord, _ request: Request) {
        guard !request.isReplica, let replicas = pipeline.declaration.replicas, replicas > 1 else { return keep(chunk, bytes, pipeline, request, others: []) }
        Task {
            // First, so that a push that cannot be taken leaves nothing on the disk.
            do throws(AccrueError) {
                keep(chunk, bytes, pipeline, request, others: try await replication.others(for: replicas, while: Self.operation(pipeline)))
            } catch { refuse(request, error) }
        }
    }

    private static func operation(_ pipeline: PipelineRecord) -> String { "taking a chunk of pipeline '\(pipeline.declaration.name)'" }

    /// - Parameter others: workers that can take a replica.
    private func keep(_ chunk: LogEntry.Chunk, _ bytes: Data, _ pipeline: PipelineRecord, _ request: Request, others: [String]) {
        let key = SpoolKey(incarnation: pipeline.incarnation, identity: chunk.identity)
        // From here until the answer the bytes must not go, whatever was decided about an earlier push of them.
        spool.pin(key)
        spool.append(chunk, incarnation: pipeline.incarnation, bytes: bytes) { [weak self] result in
            guard let self else { return }
            switch result {
            case .success where request.isReplica: kept(key, request)
            case .success(let stored) where others.isEmpty: announce(chunk, key, pipeline, request, isNew: stored == .written)
            case .success(let stored):
                Task {
                    do throws(AccrueError) {
                        let holders = try await replication.copy(chunk, bytes, of: pipeline, to: others, while: Self.operation(pipeline))
                        announce(chunk, key, pipeline, request, isNew: stored == .written, replicas: holders)
                    } catch {
                        spool.unpin(key)
                        if stored == .written { spool.drop(key, onlyUnknown: true) }
                        refuse(request, error)
                    }
                }
            case .failure(let error):
                spool.unpin(key)
                refuse(request, error)
            }
        }
    }

    /// A replica is on this disk. It stays pinned until its announcement is over, of which this worker does not hear.
    private func kept(_ key: SpoolKey, _ request: Request) {
        do throws(AccrueError) { answer(request, try .reply(request.id, encoding: Replica(worker: worker, boot: boot))) } catch { refuse(request, error) }
        DispatchQueue.global().asyncAfter(deadline: .now() + .milliseconds(3 * Self.announceMs)) { [spool] in spool.unpin(key) }
    }

    /// - Parameters:
    ///   - isNew: this push is what brought the chunk to the disk.
    ///   - replicas: other workers that hold it.
    private func announce(
        _ chunk: LogEntry.Chunk, _ key: SpoolKey, _ pipeline: PipelineRecord, _ request: Request, isNew: Bool, replicas: [Replica] = []
    ) {
        let announce = Announce(
            worker: worker, pipeline: pipeline.declaration.name, incarnation: pipeline.incarnation, chunk: chunk, replicas: replicas.isEmpty ? nil : replicas)
        let message: Message
        do { message = try Message(.announce, encoding: announce) } catch {
            spool.unpin(key)
            return refuse(request, error)
        }
        // Not patient: the coordinator's "busy" is the producer's to obey.
        control.request(message, timeoutMs: Self.announceMs, patient: false) { [weak self] result in
            guard let self else { return }
            do throws(AccrueError) {
                let acknowledgement = try result.get().read(Acknowledgement.self)
                spool.markKnown(key)
                spool.unpin(key)
                answer(request, try .reply(request.id, encoding: acknowledgement))
            } catch {
                spool.unpin(key)
                switch error.code {
                case .notFound: refuseUnknown(request, error, pipeline)
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
