import AccrueCore
import AccrueWire
import Foundation
import Testing

/// ops/PROTOCOL.md is what others write clients from: it must say what the code does.
@Suite("The protocol page")
struct ProtocolPageTests {
    static let text: String = {
        let page = URL(fileURLWithPath: #filePath).deletingLastPathComponent().appendingPathComponent("../../ops/PROTOCOL.md").standardizedFileURL
        return (try? String(contentsOf: page, encoding: .utf8)) ?? ""
    }()

    @Test("the worked example's bytes and identity are right")
    func identity() throws {
        let schema = Schema([
            TensorSchema("inputs", role: .input, dtype: .f32, shape: [2]), TensorSchema("targets", role: .target, dtype: .u8, shape: []),
        ])
        let tensors = ["inputs": TensorBytes([1, 2, 3, 4] as [Float], shape: [2, 2]), "targets": TensorBytes([0, 1] as [UInt8], shape: [2])]
        let identity = try Rows(tensors, schema: schema, while: "testing").identity
        #expect(Self.text.contains("the identity is `\(identity.hex)`"))
        let lines = Self.text.split(separator: "\n").filter { $0.hasPrefix("    ") && $0.allSatisfy { $0.isHexDigit || $0 == " " } }
        let digits = Array(lines.joined().filter { $0 != " " })
        let bytes = Data(stride(from: 0, to: digits.count, by: 2).compactMap { UInt8(String(digits[$0...$0 + 1]), radix: 16) })
        #expect(bytes.count == 46 && ContentHash(of: bytes) == identity)
    }

    @Test("every verb is described", arguments: Verb.allCases)
    func verbs(verb: Verb) { #expect(Self.text.contains("`\(verb.rawValue)`")) }

    @Test("every error code is described", arguments: AccrueError.Code.allCases)
    func codes(code: AccrueError.Code) { #expect(Self.text.contains("| `\(code.rawValue)` |")) }

    @Test("the limits are those of the code")
    func limits() {
        let rows = [
            ("frames of a message, without routing id and topic", Limits.messagePartsMax), ("bytes of a frame", Limits.frameBytesMax),
            ("bytes of a header", Limits.headerBytesMax), ("bytes of a piece of a transfer", Limits.pieceBytesMax),
            ("pieces of one transfer sent and not answered", Limits.piecesInFlightMax), ("bytes of a chunk's safetensors", Limits.chunkBytesMax),
            ("chunks in one push; their bytes together", Limits.pushChunksMax), ("rows of a chunk", Limits.chunkRowsMax), ("bytes of a blob (state, delta, …)", Limits.blobBytesMax),
            ("bytes of a safetensors header", Limits.safetensorsHeaderBytesMax), ("tensors in one safetensors", Limits.safetensorsTensorsMax),
            ("dimensions of a tensor", Limits.tensorDimensionsMax), ("bytes of a producer's key", Limits.keyBytesMax),
            ("characters of a pipeline's name", Limits.pipelineNameCharactersMax),
            ("chunks that wait unabsorbed in one pipeline", Limits.waitingChunksMax), ("rows of a query", Limits.queryRowsMax),
            ("draws of a query", Limits.queryDrawsMax), ("items of a page (listings, inventories)", Limits.pageItemsMax),
            ("HTTP connections", Limits.httpConnectionsMax), ("bytes of the bodies of all HTTP requests under way", Limits.httpBodiesBytesMax),
            ("streams of events over HTTP", Limits.httpEventStreamsMax), ("milliseconds that an HTTP request may ask to wait", Limits.httpWaitMsMax), ("seconds that an HTTP connection without a request stays open", Limits.httpIdleMs / 1_000),
        ]
        let bodies = [Limits.chunkBytesMax, Limits.httpBodiesBytesMax, Limits.httpTextBytesMax, Limits.headerBytesMax].map(String.init).joined(separator: "; ")
        #expect(Self.text.contains("| bytes of an HTTP request's body: chunk; posterior; question, or chunk as JSON; anything else | \(bodies) |"))
        for (what, limit) in rows { #expect(Self.text.contains("| \(what) | \(limit)"), "\(what)") }
    }

    /// Every field that a type writes stands on the page.
    @Test("every field of every answer and request that clients see is described")
    func fields() throws {
        let hash = ContentHash(of: Data()), key = try #require(PublicKey("rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7"))
        let declaration = PipelineDeclaration(name: "p", method: "m", seed: 1, schema: Schema([]), settings: [:], round: .init(chunks: 1, linger: 1))
        let chunk = LogEntry.Chunk(identity: hash, key: "k", rows: 1, bytes: 1)
        let lease = LeaseIdentity(pipeline: "p", incarnation: "i", boot: "b", version: 1, attempt: 0, phase: .fit)
        let status = PipelineStatus(
            name: "p", incarnation: "i", reason: "r", blocked: .init(position: 1, chunk: hash, worker: "w", sinceMs: 1), figures: [:])
        let values: [any Encodable] = [
            Hello(role: .worker, name: "w", boot: "b", endpoint: "e"), Welcome(boot: "b", endpoints: Endpoints(bulk: "", events: "")),
            Push(pipeline: "p", incarnation: "i", key: "k", offset: 0, totalBytes: 1, hash: hash), Acknowledgement(chunk: hash, position: 1, duplicate: false),
            Push(pipeline: "p", chunks: [.init(bytes: 1, key: "k")]), Acknowledgements([.failure(AccrueError(.corrupt, while: "", ""))]),
            PieceReply(complete: false, received: 1), Applied(name: "p", incarnation: "i", version: 0), PipelineListing(pipelines: [], hash: hash),
            PipelineRecord(declaration: declaration, incarnation: "i", phases: .init(scores: true, statistics: true), status: status), Flushed(position: 1),
            AwaitPosition(pipeline: "p", position: 1, timeoutMs: 1), Awaited(state: .absorbed, reason: "", version: 1),
            ChunksQuery(pipeline: "p", state: .waiting, after: 1, limit: 1),
            ChunkListing(chunks: [ChunkRecord(position: 1, chunk: chunk, state: .waiting, reason: "", version: 1)], more: false),
            ChunkPositions(pipeline: "p", positions: [1], reason: "r"), PosteriorQuery(pipeline: "p", at: 1),
            PosteriorListing(versions: [PosteriorRecord(
                pipeline: "p", incarnation: "i", version: 1, hash: hash, bytes: 1, through: 1, absorbedChunks: 1, absorbedRows: 1, createdAtMs: 1)]),
            ClusterStatus(boot: "b", pipelines: [], workers: [WorkerStatus(name: "w", role: .worker, endpoint: "e", alive: true, lease: lease, step: 1)]),
            EventsQuery(after: 0, limit: 1), EventListing(events: [EventRecord(number: 1, atMs: 1, pipeline: "p", kind: "version", text: "t")]),
            Hint(kind: .version, pipeline: "p", version: 1), QueryHeader(pipeline: "p", verb: "predict", at: 1, seed: 1),
            QueryReply(pipeline: "p", version: 1, absorbedChunks: 1, absorbedRows: 1, header: [:]), BlobGet(hash: hash, offset: 0, length: 1),
            BlobPut(hash: hash, kind: .state, offset: 0, totalBytes: 1), RangeReply(totalBytes: 1), Fetch(incarnation: "i", identity: hash, offset: 0, length: 1),
            Heartbeat(worker: "w", lease: lease, step: 1), HeartbeatReply(boot: "b", pipelines: hash, keys: hash), KeyListing(keys: [AuthorisedKey(name: "k", role: .reader, publicKey: key)]), Ready(worker: "w"), Cancel(lease: lease),
            Drop(incarnation: "i", identity: hash), InventoryReply(verdicts: []), Announce(worker: "w", pipeline: "p", incarnation: "i", items: [.init(chunk, replicas: [])]),
            AnnounceReply(results: [.taken(at: 1, duplicate: true), .refused(AccrueError(.corrupt, while: "", ""))]), Replica(worker: "w", boot: "b"),
            Inventory(worker: "w", page: 0, last: true, items: [InventoryItem(incarnation: "i", chunk: chunk)]),
            LeaseTask(
                identity: lease, declaration: declaration, base: hash, work: hash,
                rows: [RowRange(position: 1, identity: hash, firstRow: 0, rows: 1)], parts: [.init(blob: hash, rows: 1)], score: Score()),
            LeaseDone(worker: "w", lease: lease, blob: hash, report: FitReport(steps: 1), phases: .init(scores: true, statistics: true), remarks: [Remark(kind: .drift, text: "t")]),
            LeaseFailed(worker: "w", lease: lease, kind: .method, error: AccrueError(.diverged, while: "", "", position: 1, retryAfterMs: 1)),
        ]
        for value in values {
            for field in Self.fields(try JSONValue(encoding: value)) {
                #expect(Self.text.contains("`\(field)`") || Self.text.contains("\"\(field)\"") || Self.text.contains(".\(field)`"), "\(type(of: value)).\(field)")
            }
        }
    }

    private static func fields(_ value: JSONValue) -> Set<String> {
        switch value {
        case .object(let fields): fields.reduce(into: Set()) { if $1.key != "score" { $0.formUnion(Self.fields($1.value).union([$1.key])) } }
        case .array(let values): values.reduce(into: Set()) { $0.formUnion(Self.fields($1)) }
        default: []
        }
    }
}
