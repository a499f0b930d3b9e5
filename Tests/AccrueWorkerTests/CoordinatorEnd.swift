import AccrueCore
import AccrueTesting
import AccrueWire
import AccrueWorker
import Foundation
import Synchronization
import Testing

/// The other end of a worker's and a querier's wire, for tests of what they do with it: it answers as the protocol says, keeps a log and blobs in
/// memory, and hands out the leases that a test gives it. It decides nothing; rounds are put together by the tests.
final class CoordinatorEnd: Sendable {
    enum Report: Sendable, Equatable {
        case done(LeaseDone)
        case failed(LeaseFailed)
        var worker: String {
            switch self {
            case .done(let done): done.worker
            case .failed(let failed): failed.worker
            }
        }
        var lease: LeaseIdentity {
            switch self {
            case .done(let done): done.lease
            case .failed(let failed): failed.lease
            }
        }
    }

    struct State {
        var boot = UUID().uuidString
        var pipelines: [PipelineRecord] = []
        var log: [(incarnation: String, chunk: LogEntry.Chunk)] = []
        var locations: [ContentHash: [String]] = [:]
        var hellos: [Hello] = []
        /// Where each worker said hello from.
        var peers: [String: Peer] = [:]
        var inventories: [Inventory] = []
        var announcements = 0
        var versions: [PosteriorRecord] = []
        var blobs: [ContentHash: Data] = [:]
        var pieces = PieceAssembly(bytesMax: 1 << 30, openBytesMax: 1 << 30)
        /// Refuses announcements, if it says so.
        var refusesAnnouncement: @Sendable (Announce.Item) -> AccrueError? = { _ in nil }
        /// Messages that get no answer, as if they had been lost.
        var isDeafTo: Set<Verb> = []
        var verdict: @Sendable (InventoryItem) -> InventoryVerdict = { _ in .located }
    }

    let folder: String
    let loop: SocketLoop
    let state = Mutex(State())
    /// Workers that said ready, in order.
    let readiness: AsyncStream<String>
    let reports: AsyncStream<Report>
    let heartbeats: AsyncStream<Void>
    private let answered = AnsweredOnce()
    private let beat: AsyncStream<Void>.Continuation
    private let ready: AsyncStream<String>.Continuation
    private let reported: AsyncStream<Report>.Continuation

    init() throws {
        folder = "/tmp/accrue-w-\(UUID().uuidString.prefix(8))"
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        loop = try SocketLoop()
        (readiness, ready) = AsyncStream.makeStream()
        (reports, reported) = AsyncStream.makeStream()
        (heartbeats, beat) = AsyncStream.makeStream()
        try loop.bind("control", at: control) { [weak self] in self?.control($0) ?? .taken }
        try loop.bind("bulk", at: bulk, traffic: .bulk) { [weak self] in self?.bulk($0) ?? .taken }
        try loop.bindPublisher("events", at: "ipc://\(folder)/events.sock")
    }

    deinit {
        loop.stop()
        try? FileManager.default.removeItem(atPath: folder)
    }

    var control: String { "ipc://\(folder)/control.sock" }
    var bulk: String { "ipc://\(folder)/bulk.sock" }
    func ingest(_ worker: String) -> String { "ipc://\(folder)/ingest-\(worker).sock" }

    // What a test tells it.

    func apply(_ declaration: PipelineDeclaration, incarnation: String = "i1", version: Int = 0) {
        let status = PipelineStatus(name: declaration.name, incarnation: incarnation, version: version)
        let record = PipelineRecord(declaration: declaration, incarnation: incarnation, phases: .init(scores: true, statistics: true), status: status)
        state.withLock { state in
            state.pipelines.removeAll { $0.declaration.name == declaration.name }
            state.pipelines.append(record)
        }
    }

    func publish(_ bytes: Data, version: Int, pipeline: String = "chain", incarnation: String = "i1") throws {
        let hash = ContentHash(of: bytes)
        state.withLock { state in
            state.blobs[hash] = bytes
            state.versions.append(
                PosteriorRecord(
                    pipeline: pipeline, incarnation: incarnation, version: version, hash: hash, bytes: bytes.count, through: version, absorbedChunks: version,
                    absorbedRows: 10 * version, createdAtMs: 0))
            for index in state.pipelines.indices where state.pipelines[index].declaration.name == pipeline { state.pipelines[index].status.version = version }
        }
        try loop.publish(try Message(.hint, encoding: Hint(kind: .version, pipeline: pipeline, version: version)), topic: pipeline, on: "events")
    }

    func give(_ task: LeaseTask, to worker: String) throws { try tell(try Message(.lease, encoding: task), to: worker) }
    func tell(_ message: Message, to worker: String) throws { try loop.send(message, on: "control", to: state.withLock { $0.peers[worker] }) }

    /// Returns when workers have told what they hold so many times, and are ready.
    func inventories(_ count: Int) async {
        for await _ in readiness where state.withLock({ $0.inventories.count }) >= count { return }
    }

    /// A producer or another worker.
    func requester(to endpoint: String) throws -> Requester { try Requester(loop, name: UUID().uuidString, to: endpoint) }

    /// Runs a worker until `body` returns.
    func withWorker<Value: Sendable>(
        _ name: String, home: String? = nil, method: any OpaqueMethod = HashChain(), _ body: @Sendable (Requester) async throws -> Value
    ) async throws -> Value {
        var settings = try MemberSettings.worker(coordinator: control, home: home ?? "\(folder)/\(name)", name: name, listen: ingest(name))
        settings.silenceMs = Waiting.answerMs
        let catalog = MethodCatalog(["HashChain": { (_, _) throws(AccrueError) in method }])
        let service = WorkerService(settings, catalog: catalog, report: { _ in }) { Issue.record("the worker ended: \($0)") }
        let (ends, end) = AsyncStream<Void>.makeStream()
        let running = Task { () -> AccrueError? in
            do throws(AccrueError) { try await service.run { for await _ in ends { return } } } catch { return error }
            return nil
        }
        let result: Result<Value, any Error>
        do { result = .success(try await body(try requester(to: ingest(name)))) } catch { result = .failure(error) }
        end.yield()
        if let error = await running.value { throw error }
        return try result.get()
    }

    // What it answers.

    private func control(_ incoming: Incoming) -> Intake {
        guard let peer = incoming.peer else { return .taken }
        let message = incoming.message
        if let verb = message.known, state.withLock({ $0.isDeafTo.contains(verb) }) { return .taken }
        do throws(AccrueError) {
            let reply = try answered.answer(message) { (message) throws(AccrueError) in try answer(message, from: peer) }
            if let reply { try loop.send(reply, on: "control", to: peer) }
        } catch { try? loop.send(.refuse(message.id, error), on: "control", to: peer) }
        return .taken
    }

    private func answer(_ message: Message, from peer: Peer) throws(AccrueError) -> Message {
        let id = message.id
        let boot = state.withLock { $0.boot }
        switch message.known {
        case .hello:
            let hello = try message.read(Hello.self)
            state.withLock { state in
                state.hellos.append(hello)
                if let name = hello.name { state.peers[name] = peer }
            }
            return try .reply(id, encoding: Welcome(boot: boot, endpoints: Endpoints(bulk: bulk, events: "ipc://\(folder)/events.sock")))
        case .heartbeat:
            beat.yield()
            return try .reply(id, encoding: HeartbeatReply(boot: boot, pipelines: pipelineHash))
        case .pipelines: return try .reply(id, encoding: PipelineListing(pipelines: state.withLock { $0.pipelines }, hash: pipelineHash))
        case .inventory:
            let page = try message.read(Inventory.self)
            let verdicts = state.withLock { state in
                state.inventories.append(page)
                return page.items.map { item in
                    state.locations[item.chunk.identity, default: []].append(page.worker)
                    return state.verdict(item)
                }
            }
            return try .reply(id, encoding: InventoryReply(verdicts: verdicts))
        case .announce: return try .reply(id, encoding: append(try message.read(Announce.self)))
        case .ready:
            ready.yield(try message.read(Ready.self).worker)
            return .reply(id)
        case .done:
            reported.yield(.done(try message.read(LeaseDone.self)))
            return .reply(id)
        case .failed:
            reported.yield(.failed(try message.read(LeaseFailed.self)))
            return .reply(id)
        case .posteriorShow:
            let query = try message.read(PosteriorQuery.self)
            let record = state.withLock { state in
                state.versions.last { $0.pipeline == query.pipeline && (query.at == nil || $0.version == query.at) }
            }
            guard let record else { throw AccrueError(.notFound, while: "looking for a version", "there is none") }
            return try .reply(id, encoding: record)
        case .pipelineShow:
            let name = try message.read(PipelineName.self).pipeline
            guard let record = state.withLock({ $0.pipelines.first { $0.declaration.name == name } }) else {
                throw AccrueError(.notFound, while: "looking for pipeline '\(name)'", "there is none")
            }
            return try .reply(id, encoding: record)
        default: throw AccrueError(.invalidInput, while: "test", "unexpected \(message.verb)")
        }
    }

    private var pipelineHash: ContentHash {
        ContentHash(of: Data(state.withLock { $0.pipelines.map { "\($0.declaration.name) \($0.incarnation)" }.joined() }.utf8))
    }

    private func append(_ announce: Announce) -> AnnounceReply {
        AnnounceReply(results: announce.items.map { item in
            state.withLock { state -> AnnounceReply.Result in
                state.announcements += 1
                if let error = state.refusesAnnouncement(item) { return .refused(error) }
                let chunk = item.chunk
                state.locations[chunk.identity, default: []].append(announce.worker)
                if let old = state.log.firstIndex(where: { $0.incarnation == announce.incarnation && $0.chunk.identity == chunk.identity && $0.chunk.key == chunk.key }) {
                    return .taken(at: old + 1, duplicate: true)
                }
                state.log.append((announce.incarnation, chunk))
                return .taken(at: state.log.count, duplicate: false)
            }
        })
    }

    private func bulk(_ incoming: Incoming) -> Intake {
        guard let peer = incoming.peer else { return .taken }
        let message = incoming.message
        do throws(AccrueError) {
            switch message.known {
            case .blobPut:
                let put = try message.read(BlobPut.self)
                let result = state.withLock { state -> Result<PieceReply, AccrueError> in
                    do throws(AccrueError) {
                        if state.blobs[put.hash] != nil { return .success(PieceReply(complete: true, received: put.totalBytes)) }
                        let progress = try state.pieces.add(
                            message.payload.first ?? Data(), offset: put.offset, totalBytes: put.totalBytes, hash: put.hash, scope: "\(peer)", at: .now())
                        guard case .whole(let bytes) = progress else { return .success(PieceReply(complete: false, received: 0)) }
                        state.blobs[put.hash] = bytes
                        return .success(PieceReply(complete: true, received: put.totalBytes))
                    } catch { return .failure(error) }
                }
                try loop.send(try .reply(message.id, encoding: try result.get()), on: "bulk", to: peer)
            case .blobGet:
                let get = try message.read(BlobGet.self)
                guard let blob = state.withLock({ $0.blobs[get.hash] }) else { throw AccrueError(.notFound, while: "getting a blob", get.hash.short) }
                let piece = blob.dropFirst(get.offset).prefix(get.length)
                try loop.send(try .reply(message.id, encoding: RangeReply(totalBytes: blob.count), payload: [piece]), on: "bulk", to: peer)
            default: break
            }
        } catch { try? loop.send(.refuse(message.id, error), on: "bulk", to: peer) }
        return .taken
    }
}

/// A producer's side of a push.
enum Producer {
    static func chunk(_ values: [Double]) throws -> Data { Safetensors(tensors: try HashChain.rows(values).tensors).encode() }

    static func push(_ bytes: Data, key: String? = nil, pipeline: String = "chain", to ingest: Requester, patient: Bool = true) async throws -> Acknowledgement {
        let message = try Message(.push, encoding: Push(pipeline: pipeline, key: key), payload: [bytes])
        return try await ingest.patiently(message, patient: patient).read()
    }

    /// Several chunks in one push.
    /// - Parameter bytes: how many each is said to have; else as many as it has.
    static func push(_ parts: [(bytes: Data, key: String?)], claiming bytes: [Int]? = nil, to ingest: Requester) async throws -> [Acknowledgements.Result] {
        let sizes = bytes ?? parts.map(\.bytes.count)
        let header = Push(pipeline: "chain", chunks: zip(parts, sizes).map { Push.Part(bytes: $1, key: $0.key) })
        let message = try Message(.push, encoding: header, payload: [parts.reduce(Data()) { $0 + $1.bytes }])
        return try await ingest.patiently(message).read(Acknowledgements.self).results
    }

    static func pushInPieces(_ bytes: Data, pipeline: String = "chain", to ingest: Requester) async throws -> Acknowledgement {
        try await ingest.sendChunk(bytes, header: Push(pipeline: pipeline, hash: ContentHash(of: bytes)), timeoutMs: Waiting.answerMs).read()
    }
}
