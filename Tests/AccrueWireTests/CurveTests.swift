import AccrueCore
import AccrueTesting
import AccrueWire
import Foundation
import Synchronization
import Testing

/// CURVE over loopback: who gets in, and what they may do there.
@Suite("Sockets with CURVE", .serialized, .timeLimit(.minutes(10)), .enabled(if: SocketLibrary.hasCurve, "this libzmq has no CURVE"))
struct CurveTests {
    /// A ROUTER with CURVE that answers what it is handed, and remembers from whom it came.
    final class Server: Sendable {
        private final class Seen: Sendable {
            let list = Mutex<[(verb: String, key: PublicKey?)]>([])
        }

        let loop: SocketLoop
        let ring = KeyRing()
        let endpoint: String
        private let seenByAll = Seen()

        init() throws {
            let loop = try SocketLoop(admitting: ring)
            let seen = seenByAll, answered = AnsweredOnce()
            endpoint = try loop.bind("server", at: "tcp://127.0.0.1:*", security: .curveServer(try KeyPair.make())) { [weak loop] incoming in
                let reply = try? answered.answer(incoming.message) { message in
                    seen.list.withLock { $0.append((message.verb, incoming.key)) }
                    return .reply(message.id, message.header)
                }
                if let reply { try? loop?.send(reply, on: incoming.socket, to: incoming.peer) }
                return .taken
            }
            self.loop = loop
        }

        deinit { loop.stop() }

        var seen: [(verb: String, key: PublicKey?)] { seenByAll.list.withLock { $0 } }

        func admit(_ keys: [(KeyPair, KeyRole)]) {
            ring.replace(keys.enumerated().map { AuthorisedKey(name: "key-\($0)", role: $1.1, publicKey: $1.0.publicKey) })
        }
    }

    /// Somebody who connects to it.
    final class Caller: Sendable {
        let loop: SocketLoop
        let requester: Requester

        init(_ endpoint: String, as identity: KeyPair? = nil) throws {
            loop = try SocketLoop(as: identity)
            requester = try Requester(loop, name: "client", to: endpoint)
        }

        deinit { loop.stop() }

        /// The code of what went wrong, nil when the request was answered.
        func ask(_ message: Message, timeoutMs: Int = Waiting.answerMs) async -> AccrueError.Code? {
            do throws(AccrueError) {
                _ = try await requester.request(message, timeoutMs: timeoutMs)
                return nil
            } catch { return error.code }
        }
    }

    @Test("a holder of an authorised key is answered, and every message says whose it is")
    func admitted() async throws {
        let server = try Server(), pair = try KeyPair.make()
        server.admit([(pair, .reader)])
        for bytes in [10, 100_000] {
            #expect(try await Caller(server.endpoint, as: pair).ask(Message(.query, payload: [Data(repeating: 1, count: bytes)])) == nil)
        }
        #expect(server.seen.map(\.key) == [pair.publicKey, pair.publicKey])
    }

    @Test("without a key, with one that nobody authorised, and with another server's key nothing is heard and nothing arrives")
    func strangers() async throws {
        let server = try Server(), pair = try KeyPair.make()
        server.admit([(pair, .admin)])
        let address = KeyedEndpoint.address(of: server.endpoint)
        #expect(throws: AccrueError.self) { try Caller(server.endpoint) }
        #expect(try await Caller(address).ask(Message(.status), timeoutMs: Waiting.vainMs) == .unavailable)
        #expect(try await Caller(server.endpoint, as: KeyPair.make()).ask(Message(.status), timeoutMs: Waiting.vainMs) == .unavailable)
        let elsewhere = KeyedEndpoint(address, serverKey: try KeyPair.make().publicKey)
        #expect(try await Caller("\(elsewhere)", as: pair).ask(Message(.status), timeoutMs: Waiting.vainMs) == .unavailable)
        #expect(server.seen.isEmpty)
        #expect(try await Caller(server.endpoint, as: pair).ask(Message(.status)) == nil)
    }

    @Test("who is authorised while already knocking gets in")
    func late() async throws {
        let server = try Server(), pair = try KeyPair.make()
        let caller = try Caller(server.endpoint, as: pair)
        #expect(await caller.ask(Message(.status), timeoutMs: Waiting.vainMs) == .unavailable)
        server.admit([(pair, .reader)])
        #expect(await caller.ask(Message(.status)) == nil)
    }

    @Test("a key that is revoked while connected is refused at its next message, and gets back in when it is authorised again")
    func revoked() async throws {
        let server = try Server(), pair = try KeyPair.make()
        server.admit([(pair, .reader)])
        let caller = try Caller(server.endpoint, as: pair)
        #expect(await caller.ask(Message(.status)) == nil)
        server.admit([])
        #expect(await caller.ask(Message(.status)) == .unauthorised)
        // Not even whether a message is well formed is told.
        #expect(await caller.ask(Message("nonsense")) == .unauthorised)
        server.admit([(pair, .producer)])
        #expect(await caller.ask(Message(.status)) == nil)
        #expect(await caller.ask(Message(.query)) == .unauthorised)
        #expect(server.seen.map(\.verb) == ["status", "status"])
    }

    @Test("what a role does not allow never reaches who would do it")
    func roles() async throws {
        let server = try Server()
        let pairs = try KeyRole.allCases.map { (try KeyPair.make(), $0) }
        server.admit(pairs)
        for (pair, role) in pairs {
            let caller = try Caller(server.endpoint, as: pair)
            for verb: Verb in [.push, .query, .fetch, .pipelineDelete, .keys] {
                #expect(await caller.ask(Message(verb)) == (role.allows(verb) ? nil : .unauthorised), "\(role) \(verb)")
            }
        }
        for (verb, key) in server.seen { #expect(key.flatMap { server.ring[$0]?.role.allows(Message(verb)) } == true) }
    }

    @Test("ten thousand random messages from an authorised key, and as many from strangers: the next good request is answered")
    func hostile() async throws {
        let server = try Server(), pair = try KeyPair.make()
        server.admit([(pair, .producer)])
        let endpoint = try KeyedEndpoint(parsing: server.endpoint)
        let holder = try RawDealer(endpoint.address, serverKey: endpoint.serverKey?.text, publicKey: pair.publicKey.text, secretKey: pair.secretKey)
        var messages = HostileMessages(seed: 0x9E37_79B9, verbs: Verb.allCases.map(\.rawValue))
        for _ in 0..<10_000 { holder.send(messages.next()) }
        let stranger = try RawDealer(endpoint.address)
        for _ in 0..<500 { stranger.send(messages.next(), isWaiting: false) }
        for seed in 0..<20 { try RawConnection.throwBytes(at: endpoint.address, seed: UInt64(seed)) }
        #expect(try await Caller(server.endpoint, as: pair).ask(Message(.status)) == nil)
        for (verb, key) in server.seen { #expect(key == pair.publicKey && KeyRole.producer.allows(Message(verb)), "\(verb)") }
        holder.close()
        stranger.close()
    }

    @Test("hints reach subscribers with an authorised key, and nobody else")
    func hints() async throws {
        let server = try Server(), pair = try KeyPair.make()
        server.admit([(pair, .reader)])
        let events = try server.loop.bindPublisher("events", at: "tcp://127.0.0.1:*", security: .curveServer(try KeyPair.make()))
        let friend = try SocketLoop(as: pair), stranger = try SocketLoop(as: try KeyPair.make())
        let overheard = Mutex(0)
        try stranger.subscribe("sub", to: events) { _ in
            overheard.withLock { $0 += 1 }
            return .taken
        }
        let (stream, continuation) = AsyncStream<String>.makeStream()
        try friend.subscribe("sub", to: events) { incoming in
            continuation.yield(incoming.message.verb)
            return .taken
        }
        let timer = server.loop.timer(ms: 10, repeats: true) { [weak loop = server.loop] in try? loop?.publish(Message(.hint), topic: "p", on: "events") }
        var count = 0
        for await _ in stream {
            count += 1
            if count == 20 { break }
        }
        #expect(overheard.withLock { $0 } == 0)
        server.loop.cancel(timer)
        friend.stop()
        stranger.stop()
    }

    @Test("a loop without a key ring opens no socket with CURVE: libzmq would let everybody in")
    func doorkeeper() throws {
        let loop = try SocketLoop()
        #expect(throws: AccrueError.self) { try loop.bind("server", at: "tcp://127.0.0.1:*", security: .curveServer(try KeyPair.make())) { _ in .taken } }
        loop.stop()
    }
}
