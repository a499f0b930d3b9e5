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
            // Bytes of large frames stay where libzmq put them.
            for payload in [[Data([1, 2])], [Data(repeating: 3, count: 100_000), Data([4]), Data(repeating: 5, count: 70_000)]] {
                let answer = try await requester.patiently(Message(.status, ["x": 7], payload: payload))
                #expect(answer.header["x"] == 7 && answer.payload == payload)
            }
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

    @Test("messages that many threads send to one peer all arrive, each thread's in its order, wherever they leave from")
    func sendingThreads() async throws {
        let loop = try SocketLoop()
        let threads = 6, messages = 400
        let received = Mutex<[[Int]]>(Array(repeating: [], count: threads))
        let (all, allCame) = AsyncStream<Void>.makeStream()
        let bound = try loop.bind("server", at: Self.endpoint()) { incoming in
            guard let thread = incoming.message.header["thread"]?.int, let number = incoming.message.header["number"]?.int else { return .taken }
            let count = received.withLock { received in
                received[thread].append(number)
                return received.reduce(0) { $0 + $1.count }
            }
            if count == threads * messages { allCame.yield() }
            return .taken
        }
        // A loop of its own: the receiving one is busy meanwhile, the sending one asleep, but for what the threads make it do.
        let sender = try SocketLoop()
        try sender.connect("client", to: bound) { _ in .taken }
        try await withThrowingTaskGroup(of: Void.self) { group in
            for thread in 0..<threads {
                group.addTask {
                    try await onOwnThread {
                        for number in 0..<messages {
                            try sender.send(Message("x", ["thread": .integer(thread), "number": .integer(number)]), on: "client")
                            // Also through the loop's own queue.
                            if number % 50 == 49 { sender.timer(ms: 1) {} }
                        }
                    }
                }
            }
            try await group.waitForAll()
        }
        for await _ in all { break }
        #expect(received.withLock { $0 } == Array(repeating: Array(0..<messages), count: threads))
        sender.stop()
        loop.stop()
    }

    @Test("answers are not missed when other threads send on the socket that they come to")
    func answersWhileSending() async throws {
        let loop = try SocketLoop()
        let bound = try Self.echo(loop, "server", at: Self.endpoint())
        let asking = try SocketLoop()
        let requester = try Requester(asking, name: "client", to: bound)
        // Each thread waits for its answer before it asks again: an answer that a sender took in, and of which the loop was not told, would stop it.
        let sums = try await withThrowingTaskGroup(of: Int.self) { group in
            for thread in 0..<4 {
                group.addTask {
                    try await onOwnThread {
                        try (0..<300).reduce(0) { sum, number in
                            let message = Message(.status, ["x": .integer(thread * 1_000 + number)])
                            // Not sent again before the suite's time is over, so that nothing but the wake-up helps.
                            let answer = try requester.requestAndWait(message, timeoutMs: Waiting.answerMs, resendMs: Waiting.answerMs)
                            return sum + (answer.header["x"] == message.header["x"] ? 1 : 0)
                        }
                    }
                }
            }
            return try await group.reduce(into: [Int]()) { $0.append($1) }
        }
        #expect(sums == [300, 300, 300, 300])
        asking.stop()
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
