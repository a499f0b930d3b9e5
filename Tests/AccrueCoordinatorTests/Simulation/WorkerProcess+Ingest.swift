import AccrueCore
import AccrueWire
import Foundation

// Pushes and other workers' fetches, as `Ingest` takes them. A push names content that the world keeps instead of carrying it.
extension WorkerProcess {
    func push(_ message: Message, _ from: String) {
        guard let id = message.id, underWay.insert(id).inserted else { return }
        push(message, Request(id: id, from: from, isReplica: message.known == .replicate), isCurrent: false)
    }

    struct Request {
        var id: String
        var from: String
        var isReplica: Bool
    }

    private func push(_ message: Message, _ request: Request, isCurrent: Bool) {
        guard let push: Push = try? message.read(), let hex = message.payload.first.flatMap({ ContentHash(hex: String(decoding: $0, as: UTF8.self)) }),
            let rows = world.content[hex]
        else { return world.violated("a push cannot be read") }
        guard let pipeline = pipelines[push.pipeline], !request.isReplica || push.incarnation == pipeline.incarnation else {
            let unknown = AccrueError(.notFound, while: "taking a chunk", "there is no pipeline '\(push.pipeline)'")
            if isCurrent { return refuse(request, unknown) }
            return refresh { [weak self] error in
                if let error { self?.refuse(request, error) } else { self?.push(message, request, isCurrent: true) }
            }
        }
        store(LogEntry.Chunk(identity: hex, key: push.key, rows: rows.count, bytes: 8 * rows.count), pipeline, request)
    }

    private func store(_ chunk: LogEntry.Chunk, _ pipeline: PipelineRecord, _ request: Request) {
        guard !request.isReplica, pipeline.declaration.replicas != nil else { return keep(chunk, pipeline, request, other: nil) }
        control.ask(.hello, Hello(role: .client), timeoutMs: 5_000) { [weak self] (result: Result<Welcome, AccrueError>) in
            guard let self else { return }
            switch result {
            case .failure(let error): refuse(request, error)
            case .success(let welcome):
                let others = welcome.endpoints.ingest.filter { $0 != self.name }
                guard !others.isEmpty else { return refuse(request, AccrueError(.unavailable, while: "taking a chunk", "no other worker", retryAfterMs: 1_000)) }
                keep(chunk, pipeline, request, other: world.dice.one(of: others))
            }
        }
    }

    private func replicate(_ chunk: LogEntry.Chunk, _ place: SpoolPlace, _ pipeline: PipelineRecord, _ request: Request, to other: String, isNew: Bool) {
        let push = Push(pipeline: pipeline.declaration.name, incarnation: pipeline.incarnation, key: chunk.key)
        guard let message = try? Message(.replicate, encoding: push, payload: [Data(chunk.identity.hex.utf8)]) else {
            return world.violated("a replica cannot be written")
        }
        requests(to: other).ask(message, timeoutMs: 5_000) { [weak self] result in
            guard let self else { return }
            do throws(AccrueError) { announce(chunk, place, pipeline, request, replicas: [try result.get().read()]) } catch {
                unpin(place)
                if isNew { drop(place, onlyUnknown: true) }
                refuse(request, AccrueError(.unavailable, while: "taking a chunk", "\(other) does not take a replica: \(error.problem)", retryAfterMs: 1_000))
            }
        }
    }

    /// - Parameter other: who is to take a replica.
    private func keep(_ chunk: LogEntry.Chunk, _ pipeline: PipelineRecord, _ request: Request, other: String?) {
        let place = SpoolPlace(incarnation: pipeline.incarnation, identity: chunk.identity)
        pins[place, default: 0] += 1
        later(world.dice.number(1...20)) { [weak self] in
            guard let self else { return }
            if worker.isFull, worker.spool[place] == nil {
                unpin(place)
                return refuse(request, AccrueError(.limitExceeded, while: "storing a chunk", "the disk is full", retryAfterMs: 5_000))
            }
            let isNew = worker.spool[place] == nil
            if isNew { worker.spool[place] = chunk }
            if request.isReplica { return kept(place, request) }
            if let other { return replicate(chunk, place, pipeline, request, to: other, isNew: isNew) }
            announce(chunk, place, pipeline, request)
        }
    }

    private func kept(_ place: SpoolPlace, _ request: Request) {
        guard let reply = try? Message.reply(request.id, encoding: Replica(worker: name, boot: boot)) else { return world.violated("a reply cannot be written") }
        answer(request, reply)
        later(30_000) { [weak self] in self?.unpin(place) }
    }

    private func announce(_ chunk: LogEntry.Chunk, _ place: SpoolPlace, _ pipeline: PipelineRecord, _ request: Request, replicas: [Replica]? = nil) {
        let announce = Announce(worker: name, pipeline: pipeline.declaration.name, incarnation: pipeline.incarnation, items: [.init(chunk, replicas: replicas)])
        guard let message = try? Message(.announce, encoding: announce) else { return world.violated("an announcement cannot be written") }
        control.ask(message, patient: false) { [weak self] result in
            guard let self else { return }
            do throws(AccrueError) {
                let reply = try result.get().read(AnnounceReply.self)
                try reply.check(items: 1)
                let acknowledgement = try reply.results[0].acknowledgement(of: chunk.identity)
                known.insert(place)
                unpin(place)
                world.witness.acknowledged(chunk, acknowledgement, pipeline.incarnation)
                answer(request, try .reply(request.id, encoding: acknowledgement))
            } catch {
                unpin(place)
                switch error.code {
                case .conflict, .notFound, .invalidInput, .limitExceeded: drop(place, onlyUnknown: true)
                default: break
                }
                if error.code == .notFound { refuseUnknown(request, error, pipeline) } else { refuse(request, error) }
            }
        }
    }

    private func refuseUnknown(_ request: Request, _ error: AccrueError, _ old: PipelineRecord) {
        refresh { [weak self] _ in
            guard let self else { return }
            guard let now = pipelines[old.declaration.name], now.incarnation != old.incarnation else { return refuse(request, error) }
            refuse(request, AccrueError(.unavailable, while: "taking a chunk", "the pipeline was made anew", retryAfterMs: 50))
        }
    }

    private func unpin(_ place: SpoolPlace) {
        guard let count = pins[place] else { return }
        pins[place] = count > 1 ? count - 1 : nil
    }

    private func refuse(_ request: Request, _ error: AccrueError) { answer(request, .refuse(request.id, error)) }

    private func answer(_ request: Request, _ message: Message) {
        underWay.remove(request.id)
        world.network.send(message, from: name, to: request.from)
    }

    func fetch(_ message: Message, _ from: String) {
        guard let fetch: Fetch = try? message.read() else { return world.violated("a fetch cannot be read") }
        let isHere = worker.spool[SpoolPlace(incarnation: fetch.incarnation, identity: fetch.identity)] != nil
        let answer: Message =
            isHere ? .reply(message.id) : .refuse(message.id, AccrueError(.notFound, while: "reading chunk \(fetch.identity.short)", "this worker does not hold it"))
        world.network.send(answer, from: name, to: from)
    }
}
