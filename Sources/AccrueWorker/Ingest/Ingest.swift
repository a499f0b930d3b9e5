import AccrueCore
import AccrueWire
import Foundation
import Synchronization

/// Takes pushes: checks them, stores them, announces them, and acknowledges them only when they are on disk here and in the coordinator's log.
///
/// Nothing of it runs on the sockets' thread: checking has a thread of its own, so have the disk and the reading for other workers. Small pushes are
/// checked on the disk's thread, which saves waking another. Their order is that of who waits for each acknowledgement before the next push.
final class Ingest: Sendable {
    /// Bytes of pushes that may be under way; one push is always taken.
    static let bytesMax = 512 << 20
    static let requestsMax = 4_096
    static let fetchesMax = 1_024
    /// Checking as many bytes takes less time than waking a thread.
    private static let smallBytesMax = 32 << 10
    /// Of several chunks in one push: checked on the disk's thread too, all of them go into one group there, by one sync and one announcement.
    private static let smallTogetherBytesMax = 256 << 10
    /// In the place of an identity that is still to be made.
    private static let unknown = ContentHash(of: Data())
    /// Large pushes that are checked together: others wait for all of them.
    private static let largeTogetherMax = 8

    /// A request that was not answered yet; the same sent again meanwhile is not done twice.
    struct Request: Hashable, Sendable {
        var peer: Peer
        var id: String
        /// Another worker's copy of what it was pushed: to be kept, and announced by that worker.
        var isReplica = false
        /// Nil: all that was pushed. Else one of several chunks.
        var index: Int?
    }

    let worker: String
    let boot: String
    let spool: Spool
    let pipelines: KnownPipelines
    let announcer: Announcer
    let replication: Replication
    private let damaged: @Sendable (SpoolKey, AccrueError) -> Void
    private let send: @Sendable (Message, Peer) -> Void
    /// Checking large pushes one by one takes as long as writing them.
    private let checking = WorkThreads("ingest", count: Rows.hashesTogether ? 1 : 2)
    private let reading = WorkThreads("fetch")
    private let admission = Admission(countMax: requestsMax, bytesMax: bytesMax)
    /// Apart from the pushes: two workers full of pushes that wait for each other's replicas would wait for ever.
    private let replicaAdmission = Admission(countMax: requestsMax, bytesMax: bytesMax)
    /// What is to be checked, on the disk's thread and on its own.
    private let small = Mutex<[Arrived]>([])
    private let large = Mutex<[Arrived]>([])
    /// Chunks and bytes of each request.
    private let underWay = Mutex<[Request: (chunks: Int, bytes: Int)]>([:])
    /// Of requests with several chunks.
    private let together = Mutex<[Request: PushedTogether]>([:])
    private let pieces = Mutex(PieceAssembly(bytesMax: Limits.chunkBytesMax, openBytesMax: 2 * Limits.chunkBytesMax, patienceMs: 15_000))

    /// - Parameter damaged: told of a chunk that the spool does not give as it was pushed.
    init(
        worker: String, boot: String, spool: Spool, pipelines: KnownPipelines, control: Requester, replication: Replication,
        damaged: @escaping @Sendable (SpoolKey, AccrueError) -> Void, send: @escaping @Sendable (Message, Peer) -> Void
    ) {
        self.damaged = damaged
        self.worker = worker
        self.boot = boot
        self.spool = spool
        self.pipelines = pipelines
        announcer = Announcer(worker: worker, control: control)
        spool.whenSettled { [weak announcer] in announcer?.flush() }
        self.replication = replication
        self.send = send
    }

    /// Takes what came on the ingest socket; on the loop's thread.
    func receive(_ incoming: Incoming) -> Intake {
        guard let peer = incoming.peer else { return .taken }
        let message = incoming.message
        switch message.known {
        case .push, .replicate:
            guard let id = message.id else {
                let error = AccrueError(.invalidInput, while: "taking a \(message.verb)", "the header has no 'id'", hint: "see ops/PROTOCOL.md")
                send(.refuse(nil, error), peer)
                return .taken
            }
            let request = Request(peer: peer, id: id, isReplica: message.known == .replicate)
            let bytes = message.payload.reduce(0) { $0 + $1.count }
            if underWay.withLock({ $0[request] != nil }) { return .taken }
            let parts = message.header["chunks"]?.array?.count, chunks = max(1, parts ?? 1)
            guard admission(of: request).enter(count: chunks, bytes: bytes) else { return .busy }
            underWay.withLock { $0[request] = (chunks, bytes) }
            let arrived = Arrived(message: message, request: request)
            if bytes > (parts == nil ? Self.smallBytesMax : Self.smallTogetherBytesMax) {
                check(arrived)
            } else {
                small.withLock { $0.append(arrived) }
                if !spool.prepare({ [weak self] in self?.checkSmall() }) { checking.submit { [weak self] in self?.checkSmall() } }
            }
            return .taken
        case .fetch:
            guard reading.waiting < Self.fetchesMax else { return .busy }
            reading.submit { [weak self] in self?.fetch(message, peer) }
            return .taken
        default:
            let error = AccrueError(
                .invalidInput, while: "taking '\(message.verb)'", "an ingest socket understands push, replicate and fetch", hint: "send it to the coordinator's control socket")
            send(.refuse(message.id, error), peer)
            return .taken
        }
    }

    /// Refuses pushes from now on, and returns when those under way are answered, or after a while.
    func close(patienceMs: Int) async {
        async let replicas: Void = replicaAdmission.close(patienceMs: patienceMs)
        await admission.close(patienceMs: patienceMs)
        await replicas
    }

    private func admission(of request: Request) -> Admission { request.isReplica ? replicaAdmission : admission }

    func answer(_ request: Request, _ message: Message) {
        send(message, request.peer)
        if let room = underWay.withLock({ $0.removeValue(forKey: request) }) { admission(of: request).leave(count: room.chunks, bytes: room.bytes) }
    }

    func acknowledge(_ request: Request, _ acknowledgement: Acknowledgement) {
        guard request.index == nil else { return put(.success(acknowledgement), request) }
        do throws(AccrueError) { answer(request, try .reply(request.id, encoding: acknowledgement)) } catch { refuse(request, error) }
    }

    func refuse(_ request: Request, _ error: AccrueError) {
        guard request.index == nil else { return put(.failure(error), request) }
        answer(request, .refuse(request.id, error))
    }

    /// One of several chunks is done with.
    private func put(_ result: PushedTogether.Result, _ part: Request) {
        var request = part
        request.index = nil
        guard let index = part.index, let results = together.withLock({ $0[request] })?.put(result, at: index) else { return }
        together.withLock { $0[request] = nil }
        do throws(AccrueError) { answer(request, try .reply(request.id, encoding: Acknowledgements(results))) } catch { refuse(request, error) }
    }
}

// Pushes. Those that wait together are checked together, because several contents are hashed in the time of one.
extension Ingest {
    private struct Arrived: Sendable {
        var message: Message
        var request: Request
        /// The pipelines were asked for after this push came.
        var isCurrent = false
    }

    /// A push whose rows fit.
    private struct Read {
        var push: Push
        var bytes: Data
        var rows: Rows
        var pipeline: PipelineRecord
        var request: Request
        var room: SpoolRoom?

        func chunk(_ identity: ContentHash) -> LogEntry.Chunk { LogEntry.Chunk(identity: identity, key: push.key, rows: rows.count, bytes: bytes.count) }
    }

    private func check(_ arrived: Arrived) {
        large.withLock { $0.append(arrived) }
        checking.submit { [weak self] in self?.checkLarge() }
    }

    private func checkSmall() {
        check(small.withLock { small in
            defer { small = [] }
            return small
        })
    }

    private func checkLarge() {
        check(large.withLock { large in
            defer { large.removeFirst(min(Self.largeTogetherMax, large.count)) }
            return Array(large.prefix(Self.largeTogetherMax))
        })
    }

    private func check(_ arrived: [Arrived]) {
        let read = arrived.flatMap(read)
        // Nobody waits for a hash that takes much longer than the own.
        keep(read.filter { $0.bytes.count <= Limits.frameBytesMax })
        keep(read.filter { $0.bytes.count > Limits.frameBytesMax })
    }

    private func keep(_ read: [Read]) {
        var read = read
        for index in read.indices { read[index].room = lay(read[index]) }
        for (push, identity) in zip(read, Rows.identities(of: read.map(\.rows))) {
            store(
                CheckedPush(
                    chunk: push.chunk(identity), bytes: push.bytes, hash: push.push.hash, pipeline: push.pipeline, request: push.request, room: push.room))
        }
    }

    /// Has the disk write a large push while it is hashed, unless something may still come between that and its record.
    private func lay(_ push: Read) -> SpoolRoom? {
        guard push.bytes.count > Self.smallBytesMax, push.request.isReplica || (push.pipeline.declaration.replicas ?? 1) == 1 else { return nil }
        return spool.lay(push.chunk(Self.unknown), incarnation: push.pipeline.incarnation, bytes: push.bytes)
    }

    /// Nothing of what is answered, or will come again with the pipelines of now.
    private func read(_ arrived: Arrived) -> [Read] {
        let message = arrived.message, request = arrived.request
        do throws(AccrueError) {
            let push = try message.read(Push.self)
            guard let pipeline = pipelines[push.pipeline], !request.isReplica || push.incarnation == pipeline.incarnation else {
                guard !arrived.isCurrent else {
                    throw AccrueError(
                        .notFound, while: "taking a chunk of pipeline '\(push.pipeline)'", "there is no such pipeline", hint: "see 'accrue pipeline list', or apply it first")
                }
                pipelines.refresh { [weak self] error in
                    guard let self else { return }
                    if let error { return refuse(request, error) }
                    check(Arrived(message: message, request: request, isCurrent: true))
                }
                return []
            }
            if let parts = push.chunks { return try several(parts, push, arrived, pipeline) }
            try Self.check(key: push.key, of: push.pipeline)
            guard let bytes = try whole(push, message, request) else { return [] }
            return read(bytes, push, pipeline, request, isCurrent: arrived.isCurrent).map { [$0] } ?? []
        } catch {
            refuse(request, error)
            return []
        }
    }

    /// Of several chunks in one push, those whose rows fit; the others are refused, each by itself.
    private func several(_ parts: [Push.Part], _ push: Push, _ arrived: Arrived, _ pipeline: PipelineRecord) throws(AccrueError) -> [Read] {
        let operation = "taking chunks of pipeline '\(push.pipeline)'", bytes = arrived.message.joinedPayload, hint = "see ops/PROTOCOL.md"
        guard !arrived.request.isReplica, push.key == nil, push.hash == nil, push.offset == nil, push.totalBytes == nil else {
            throw AccrueError(.invalidInput, while: operation, "'chunks' stands beside a key, hash, offset or totalBytes", hint: hint)
        }
        guard (1...Limits.pushChunksMax).contains(parts.count), bytes.count <= Limits.frameBytesMax else {
            throw AccrueError(
                .invalidInput, while: operation, "\(parts.count) chunks with \(bytes.count) bytes; 1 to \(Limits.pushChunksMax) with at most \(Limits.frameBytesMax) are allowed", hint: hint)
        }
        // No sum of what was sent can overflow: none is larger than the payload.
        guard parts.allSatisfy({ (0...bytes.count).contains($0.bytes) }), parts.reduce(0, { $0 + $1.bytes }) == bytes.count else {
            throw AccrueError(.invalidInput, while: operation, "the chunks' 'bytes' do not add up to the payload's \(bytes.count)", hint: hint)
        }
        together.withLock { $0[arrived.request] = PushedTogether(count: parts.count) }
        var read: [Read] = [], start = bytes.startIndex
        for (index, part) in parts.enumerated() {
            let end = start + part.bytes
            var request = arrived.request
            request.index = index
            do throws(AccrueError) {
                try Self.check(key: part.key, of: push.pipeline)
                let one = Push(pipeline: push.pipeline, key: part.key)
                if let fits = self.read(Data(bytes[start..<end]), one, pipeline, request, isCurrent: arrived.isCurrent) { read.append(fits) }
            } catch { refuse(request, error) }
            start = end
        }
        return read
    }

    private static func check(key: String?, of pipeline: String) throws(AccrueError) {
        guard let key, key.isEmpty || key.utf8.count > Limits.keyBytesMax else { return }
        throw AccrueError(
            .limitExceeded, while: "taking a chunk of pipeline '\(pipeline)'", "the key has \(key.utf8.count) bytes; 1 to \(Limits.keyBytesMax) are allowed",
            hint: "choose a shorter key, or none")
    }

    /// Nil when the chunk is refused, or will come again with the pipeline of now.
    private func read(_ bytes: Data, _ push: Push, _ pipeline: PipelineRecord, _ request: Request, isCurrent: Bool) -> Read? {
        do throws(AccrueError) {
            let rows = try Self.rows(in: bytes, schema: pipeline.declaration.schema, while: "taking a chunk of pipeline '\(push.pipeline)'")
            return Read(push: push, bytes: bytes, rows: rows, pipeline: pipeline, request: request)
        } catch {
            // A pipeline with classes appended, or deleted and made anew, has another schema than the one known here.
            // What enters the log with a new class comes after the entry that appends it: no worker knows the class before that is committed.
            guard !isCurrent else {
                refuse(request, error)
                return nil
            }
            pipelines.refresh { [weak self] failure in
                guard let self else { return }
                guard failure == nil, let now = pipelines[push.pipeline], now.incarnation != pipeline.incarnation || now.declaration.schema != pipeline.declaration.schema
                else { return refuse(request, error) }
                checking.submit { [weak self] in
                    guard let self, let fits = read(bytes, push, now, request, isCurrent: true) else { return }
                    keep([fits])
                }
            }
            return nil
        }
    }

    /// The chunk's bytes; nil while pieces are missing (the piece is answered then).
    private func whole(_ push: Push, _ message: Message, _ request: Request) throws(AccrueError) -> Data? {
        guard let offset = push.offset else {
            let bytes = message.joinedPayload
            if let hash = push.hash, ContentHash(of: bytes) != hash {
                throw AccrueError(.corrupt, while: "taking a chunk of pipeline '\(push.pipeline)'", "the bytes do not have the SHA-256 that came with them", hint: "send it again")
            }
            return bytes
        }
        guard let total = push.totalBytes, let hash = push.hash, message.payload.count == 1 else {
            throw AccrueError(
                .invalidInput, while: "taking a piece for pipeline '\(push.pipeline)'", "a piece needs totalBytes, hash and one payload frame", hint: "see ops/PROTOCOL.md")
        }
        let scope = "\(request.peer) \(push.pipeline) \(push.key ?? "")"
        let progress = try pieces.withLock { pieces throws(AccrueError) in
            try pieces.add(message.payload[0], offset: offset, totalBytes: total, hash: hash, scope: scope, at: .now())
        }
        switch progress {
        case .whole(let bytes):
            // From here on the whole is under way, not this piece alone.
            let piece = underWay.withLock { $0.updateValue((1, bytes.count), forKey: request) }?.bytes ?? 0
            admission(of: request).grow(by: bytes.count - piece)
            return bytes
        case .partial(let received):
            answer(request, try .reply(message.id, encoding: PieceReply(complete: false, received: received)))
            return nil
        }
    }

    static func rows(in bytes: Data, schema: Schema, while operation: String) throws(AccrueError) -> Rows {
        let tensors: [String: TensorBytes]
        do { tensors = try Safetensors.decode(bytes).tensors } catch {
            throw AccrueError(error.code, while: operation, error.problem, hint: error.hint)
        }
        return try Rows(tensors, schema: schema, while: operation)
    }
}

// Other workers' fetches.
extension Ingest {
    private func fetch(_ message: Message, _ peer: Peer) {
        do throws(AccrueError) {
            let fetch = try message.read(Fetch.self)
            let key = SpoolKey(incarnation: fetch.incarnation, identity: fetch.identity)
            let total = try spool.byteCount(of: key)
            guard (0...total).contains(fetch.offset), (0...Limits.pieceBytesMax).contains(fetch.length) else {
                throw AccrueError(
                    .invalidInput, while: "reading chunk \(fetch.identity.short)", "\(fetch.length) bytes at \(fetch.offset) of \(total)",
                    hint: "ask for at most \(Limits.pieceBytesMax) bytes inside the chunk")
            }
            // Who fetches begins here, and is told at once when it is not worth going on.
            if fetch.offset == 0 {
                do { try spool.check(key) } catch {
                    if error.code == .corrupt { damaged(key, error) }
                    throw error
                }
            }
            let bytes = try spool.bytes(of: key, range: fetch.offset..<min(total, fetch.offset + fetch.length))
            send(try .reply(message.id, encoding: RangeReply(totalBytes: total), payload: [bytes]), peer)
        } catch { send(.refuse(message.id, error), peer) }
    }
}
