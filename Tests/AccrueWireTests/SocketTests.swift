import AccrueCore
import AccrueTesting
import AccrueWire
import Foundation
import Synchronization
import Testing

/// Real sockets over ipc and loopback TCP.
@Suite("Sockets and requests", .serialized, .timeLimit(.minutes(10)))
struct SocketTests {
    private static func endpoint() -> String { "ipc:///tmp/accrue-test-\(UUID().uuidString.prefix(8)).sock" }

    /// A ROUTER that answers 'status' with the header it was sent.
    private static func echo(_ loop: SocketLoop, _ name: String, at endpoint: String, seen: Counter? = nil) throws -> String {
        try loop.bind(name, at: endpoint) { [weak loop] incoming in
            seen?.add()
            try? loop?.send(.reply(incoming.message.id, incoming.message.header, payload: incoming.message.payload), on: incoming.socket, to: incoming.peer)
            return .taken
        }
    }

    final class Counter: Sendable {
        private let value = Mutex(0)
        func add() { value.withLock { $0 += 1 } }
        var count: Int { value.withLock { $0 } }
    }

    @Test("a request comes back with its answer, over ipc and over TCP")
    func requestAndReply() async throws {
        for endpoint in [Self.endpoint(), "tcp://127.0.0.1:*"] {
            let loop = try SocketLoop()
            let bound = try Self.echo(loop, "server", at: endpoint)
            let requester = try Requester(loop, name: "client", to: bound)
            let answer = try await requester.patiently(Message(.status, ["x": 7], payload: [Data([1, 2])]))
            #expect(answer.header["x"] == 7 && answer.payload == [Data([1, 2])])
            loop.stop()
        }
    }

    @Test("a refusal is thrown; one that says when to try again is obeyed")
    func refusals() async throws {
        let loop = try SocketLoop()
        let asked = Counter()
        let bound = try loop.bind("server", at: Self.endpoint()) { [weak loop] incoming in
            asked.add()
            let patience = incoming.message.header["busy"]?.bool == true && asked.count < 3
            let answer: Message =
                incoming.message.header["busy"]?.bool == true
                ? (patience ? .refuse(incoming.message.id, AccrueError(.unavailable, while: "testing", "busy", retryAfterMs: 5)) : .reply(incoming.message.id))
                : .refuse(incoming.message.id, AccrueError(.conflict, while: "testing", "no"))
            try? loop?.send(answer, on: incoming.socket, to: incoming.peer)
            return .taken
        }
        let requester = try Requester(loop, name: "client", to: bound)
        await #expect(throws: AccrueError(.conflict, while: "testing", "no")) { try await requester.patiently(Message(.status)) }
        let before = asked.count
        _ = try await requester.patiently(Message(.status, ["busy": true]))
        #expect(asked.count >= before + 1)
        loop.stop()
    }

    @Test("a request whose first message was lost is sent again with the same id")
    func resend() async throws {
        let loop = try SocketLoop()
        let ids = Mutex<[String]>([])
        let bound = try loop.bind("server", at: Self.endpoint()) { [weak loop] incoming in
            let count = ids.withLock { ids in
                ids.append(incoming.message.id ?? "")
                return ids.count
            }
            if count >= 3 { try? loop?.send(.reply(incoming.message.id), on: incoming.socket, to: incoming.peer) }
            return .taken
        }
        let requester = try Requester(loop, name: "client", to: bound)
        _ = try await requester.request(Message(.status), timeoutMs: Waiting.answerMs, resendMs: 20)
        #expect(ids.withLock { Set($0).count } == 1)
        loop.stop()
    }

    @Test("without an answer a request fails in its time, saying that the outcome is unknown")
    func silence() async throws {
        let loop = try SocketLoop()
        let requester = try Requester(loop, name: "client", to: Self.endpoint())
        let error = await #expect(throws: AccrueError.self) { try await requester.request(Message(.status), timeoutMs: Waiting.vainMs) }
        #expect(error?.code == .unavailable && error?.problem == "no answer within \(Waiting.vainMs) ms; whether it was done is unknown")
        loop.stop()
    }

    @Test("bytes travel in pieces, up and down, and are checked against their hash")
    func transfers() async throws {
        let loop = try SocketLoop()
        let blobs = Mutex<[ContentHash: Data]>([:])
        let pieces = Mutex(PieceAssembly(bytesMax: 100 << 20, openBytesMax: 100 << 20))
        let bound = try loop.bind("server", at: Self.endpoint(), traffic: .bulk) { [weak loop] incoming in
            let message = incoming.message
            let answer: Message
            do throws(AccrueError) {
                if message.known == .blobPut {
                    let put: BlobPut = try message.read()
                    let progress = try pieces.withLock { (pieces) throws(AccrueError) in
                        try pieces.add(message.payload[0], offset: put.offset, totalBytes: put.totalBytes, hash: put.hash, scope: "x", at: .now())
                    }
                    switch progress {
                    case .partial(let received): answer = try .reply(message.id, encoding: PieceReply(complete: false, received: received))
                    case .whole(let bytes):
                        blobs.withLock { $0[put.hash] = bytes }
                        answer = try .reply(message.id, encoding: PieceReply(complete: true, received: bytes.count))
                    }
                } else {
                    let get: BlobGet = try message.read()
                    let bytes = blobs.withLock { $0[get.hash] } ?? Data()
                    answer = try .reply(message.id, encoding: RangeReply(totalBytes: bytes.count), payload: [bytes.subdata(in: get.offset..<min(bytes.count, get.offset + get.length))])
                }
            } catch { answer = .refuse(message.id, error) }
            try? loop?.send(answer, on: incoming.socket, to: incoming.peer)
            return .taken
        }
        let requester = try Requester(loop, name: "client", to: bound, traffic: .bulk)
        for size in [0, 1, Limits.pieceBytesMax, 5 * Limits.pieceBytesMax / 2, 12 * Limits.pieceBytesMax] {
            let bytes = Data((0..<size).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ $0 >> 9) })
            let hash = try await requester.putBlob(bytes, kind: .work, timeoutMs: Waiting.answerMs)
            #expect(try await requester.getBlob(hash, timeoutMs: Waiting.answerMs) == bytes)
        }
        loop.stop()
    }

    @Test("hints reach subscribers of their topic")
    func hints() async throws {
        let loop = try SocketLoop()
        let bound = try loop.bindPublisher("events", at: Self.endpoint())
        let (stream, continuation) = AsyncStream<String>.makeStream()
        try loop.subscribe("sub", to: bound, topics: ["digits"]) { incoming in
            continuation.yield("\(incoming.topic ?? "") \(incoming.message.verb)")
            return .taken
        }
        // A subscription takes a moment to arrive, and PUB drops until then: publish until something comes.
        let timer = loop.timer(ms: 10, repeats: true) { [weak loop] in
            try? loop?.publish(Message("hint"), topic: "other", on: "events")
            try? loop?.publish(Message("hint"), topic: "digits", on: "events")
        }
        var first: String?
        for await text in stream { first = text; break }
        #expect(first == "digits hint")
        loop.cancel(timer)
        loop.stop()
    }

    @Test("ten thousand random messages: each is refused or ignored, and the next good request is answered")
    func hostile() async throws {
        let loop = try SocketLoop()
        let seen = Counter()
        let bound = try Self.echo(loop, "server", at: Self.endpoint(), seen: seen)
        let attacker = try RawDealer(bound)
        var messages = HostileMessages(seed: 0x9E37_79B9, verbs: ["push", "status"])
        for _ in 0..<10_000 { attacker.send(messages.next()) }
        attacker.send([Data("accrue/1".utf8), Data("status".utf8), Data("{}".utf8), Data(count: Limits.frameBytesMax + 1)])
        let requester = try Requester(loop, name: "client", to: bound)
        #expect(try await requester.patiently(Message(.status, ["x": 1])).header["x"] == 1)
        #expect(seen.count >= 1)
        attacker.close()
        loop.stop()
    }
}
