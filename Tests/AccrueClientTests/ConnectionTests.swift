import AccrueClient
import AccrueCore
import AccrueTesting
import AccrueWire
import Foundation
import Synchronization
import Testing

@Suite("A client's connection", .timeLimit(.minutes(10)))
struct ConnectionTests {
    @Test("where nobody listens, connecting is one clear error, at once or after the client's patience", arguments: [
        ("ipc:///tmp/accrue-no-such.sock", "no daemon listens there"), ("tcp://127.0.0.1:1", "no daemon answered within \(Waiting.vainMs) ms"),
    ])
    func nobody(endpoint: String, problem: String) async {
        let error = await #expect(throws: AccrueError.self) { try await ClusterConnection.open(endpoint, patience: Patience(helloMs: Waiting.vainMs)) }
        #expect(error?.code == .unavailable && error?.problem == problem && error?.hint.contains("accrue serve") == true)
    }

    @Test("a coordinator that falls silent is one clear error after the client's patience")
    func silence() async throws {
        let connection = try await ClusterEnd().connection(askMs: Waiting.vainMs)
        let error = await #expect(throws: AccrueError.self) { try await connection.status() }
        #expect(error?.code == .unavailable && error?.problem.contains("no answer within \(Waiting.vainMs) ms") == true)
    }

    @Test("a client waits for answers, unless told otherwise, for seconds and not for ever")
    func patience() {
        let patience = Patience()
        #expect([patience.helloMs, patience.askMs, patience.applyMs, patience.absenceMs].allSatisfy { (1_000...60_000).contains($0) })
    }

    @Test("what the coordinator refuses is thrown as it is")
    func refusal() async throws {
        let missing = AccrueError(.notFound, while: "testing", "no such pipeline")
        let end = try ClusterEnd { (_) throws(AccrueError) in throw missing }
        let connection = try await end.connection()
        await #expect(throws: missing) { try await connection.flush("x") }
    }

    @Test("waiting goes on while the chunk waits, and ends with what became of it")
    func outcome() async throws {
        let answers = Mutex([Awaited(state: .waiting), Awaited(state: .waiting), Awaited(state: .setAside, reason: "poison")])
        let end = try ClusterEnd { (message) throws(AccrueError) in
            guard message.known == .await else { return nil }
            return try .reply(message.id, encoding: answers.withLock { $0.removeFirst() })
        }
        var waits = 0
        let outcome = try await end.connection().outcome(ofPosition: 4, in: "p") { () throws(AccrueError) in waits += 1 }
        #expect(outcome.state == .setAside && outcome.reason == "poison" && waits == 2)
    }

    @Test("chunks, versions and events come page by page, without a gap")
    func pages() async throws {
        let end = try ClusterEnd { (message) throws(AccrueError) in
            switch message.known {
            case .chunksList:
                let after = try message.read(ChunksQuery.self).after ?? 0
                let records = (after + 1...min(after + 2, 5)).map {
                    ChunkRecord(position: $0, chunk: .init(identity: ContentHash(of: Data()), key: nil, rows: 1, bytes: 1), state: .waiting)
                }
                return try .reply(message.id, encoding: ChunkListing(chunks: records, more: after + 2 < 5))
            case .posteriorList:
                let first = try message.read(PosteriorsQuery.self).after.map { $0 + 1 } ?? 0
                let records = (first...min(first + 1, 4)).map {
                    PosteriorRecord(
                        pipeline: "p", incarnation: "i", version: $0, hash: ContentHash(of: Data()), bytes: 0, through: 0, absorbedChunks: 0, absorbedRows: 0, createdAtMs: 0)
                }
                return try .reply(message.id, encoding: PosteriorListing(versions: records, more: first + 1 < 4))
            case .events:
                let query = try message.read(EventsQuery.self)
                let last = min(query.after + min(query.limit ?? 1, 500), 1_234)
                let events = query.after >= last ? [] : (query.after + 1...last).map { EventRecord(number: $0, atMs: 0, pipeline: nil, kind: "version", text: "") }
                return try .reply(message.id, encoding: EventListing(events: events))
            default: return nil
            }
        }
        let connection = try await end.connection()
        var positions: [Int] = []
        try await connection.chunks("p") { positions += $0.chunks.map(\.position) }
        #expect(positions == Array(1...5))
        var versions: [Int] = []
        try await connection.versions(of: "p") { versions += $0.versions.map(\.version) }
        #expect(versions == Array(0...4))
        #expect(try await connection.events(after: 100).map(\.number) == Array(101...1_234))
    }

    @Test("a state comes whole and is checked against its hash")
    func state() async throws {
        let bytes = Data((0..<(2 << 20) + 5).map { UInt8(truncatingIfNeeded: $0) })
        let end = try ClusterEnd()
        try end.bind("bulk") { (message) throws(AccrueError) in
            let get: BlobGet = try message.read()
            return try .reply(message.id, encoding: RangeReply(totalBytes: bytes.count), payload: [bytes.dropFirst(get.offset).prefix(get.length)])
        }
        func record(_ hash: ContentHash) -> PosteriorRecord {
            PosteriorRecord(
                pipeline: "p", incarnation: "i", version: 1, hash: hash, bytes: bytes.count, through: 1, absorbedChunks: 1, absorbedRows: 1, createdAtMs: 0)
        }
        let connection = try await end.connection()
        #expect(try await connection.state(of: record(ContentHash(of: bytes))) == bytes)
        await #expect { try await connection.state(of: record(ContentHash(of: Data()))) } throws: { ($0 as? AccrueError)?.code == .corrupt }
    }

    @Test("a hint is an occasion to ask")
    func hints() async throws {
        let end = try ClusterEnd()
        let connection = try await end.connection()
        var occasions = 0
        for await _ in try connection.occasions() {
            occasions += 1
            try end.publish(Hint(kind: .version, pipeline: "p", version: occasions))
            if occasions == 3 { break }
        }
        #expect(occasions == 3)
    }

    @Test("closing a connection ends what waits on it")
    func close() async throws {
        let reached = AsyncStream<Void>.makeStream()
        let end = try ClusterEnd { (_) throws(AccrueError) in
            reached.continuation.yield()
            return nil
        }
        let connection = try await end.connection()
        let answer = Task { try await connection.status() }
        for await _ in reached.stream { break }
        connection.close()
        await #expect { try await answer.value } throws: { ($0 as? AccrueError)?.problem == "the connection was closed" }
    }
}
