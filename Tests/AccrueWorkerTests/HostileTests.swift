import AccrueCore
import AccrueTesting
import AccrueWire
import Foundation
import Synchronization
import Testing

@testable import AccrueWorker

/// Sends hostile messages from a thread of its own, so that tests that wait are not held up. Its socket stays open as long as it is kept.
private final class Attacker: Sendable {
    private let endpoint: String
    private let seed: UInt64
    private let verbs: [String]
    private let thread = WorkThreads("attacker")
    private let dealer = Mutex<RawDealer?>(nil)

    init(_ endpoint: String, seed: UInt64, verbs: [String]) {
        self.endpoint = endpoint
        self.seed = seed
        self.verbs = verbs
    }

    deinit { dealer.withLock { $0?.close() } }

    func send(_ count: Int) async {
        await thread.run { [self] in
            var messages = HostileMessages(seed: seed, verbs: verbs)
            dealer.withLock { dealer in
                dealer = try? RawDealer(endpoint)
                #expect(dealer != nil)
                for _ in 0..<count { dealer?.send(messages.next()) }
            }
        }
    }
}

@Suite("Workers and queriers among bad bytes, lost coordinators and damaged disks", .timeLimit(.minutes(10)))
struct HostileTests {
    static func code(_ bytes: Data, key: String? = nil, to ingest: Requester) async -> AccrueError.Code? {
        do {
            _ = try await Producer.push(bytes, key: key, to: ingest)
            return nil
        } catch { return (error as? AccrueError)?.code }
    }

    @Test("each kind of bad chunk is refused with its code")
    func codes() async throws {
        let coordinator = try CoordinatorEnd()
        coordinator.apply(HashChain.pipeline())
        func chunk(_ tensors: [String: TensorBytes]) -> Data { Safetensors(tensors: tensors).encode() }
        let good = try Producer.chunk([1, 2, 3])
        var huge = good
        huge.replaceSubrange(0..<8, with: withUnsafeBytes(of: (UInt64(1) << 60).littleEndian) { Data($0) })
        let cases: [(String, Data, AccrueError.Code)] = [
            ("wrong dtype", chunk(["values": TensorBytes([1] as [Float], shape: [1])]), .invalidInput),
            ("wrong shape", chunk(["values": TensorBytes([1.0, 2], shape: [1, 2])]), .invalidInput),
            ("NaN", chunk(["values": TensorBytes([1.0, Double.nan], shape: [2])]), .invalidInput),
            ("no rows", chunk(["values": TensorBytes([Double](), shape: [0])]), .invalidInput),
            ("another tensor", chunk(["values": TensorBytes([1.0], shape: [1]), "x": TensorBytes([1.0], shape: [1])]), .invalidInput),
            ("no bytes", Data(), .corrupt), ("cut", good.dropLast(), .corrupt), ("longer", good + Data([0]), .corrupt), ("zeros", Data(count: 64), .corrupt),
            ("a header of 2^60 bytes", huge, .limitExceeded),
        ]
        try await coordinator.withWorker("a") { ingest in
            for (what, bytes, code) in cases { #expect(await Self.code(bytes, to: ingest) == code, "\(what)") }
            #expect(coordinator.state.withLock { $0.announcements } == 0)
        }
    }

    @Test("ten thousand random messages change nothing at a worker, and the next push is taken")
    func ingest() async throws {
        let coordinator = try CoordinatorEnd()
        coordinator.apply(HashChain.pipeline())
        try await coordinator.withWorker("a") { ingest in
            for await _ in coordinator.readiness { break }
            let attacker = Attacker(coordinator.ingest("a"), seed: 11, verbs: ["push", "fetch", "query", "lease", "drop", "reply", "refuse"])
            await attacker.send(10_000)
            let acknowledgement = try await Producer.push(try Producer.chunk([1]), to: ingest)
            #expect(acknowledgement.position == 1)
        }
        #expect(coordinator.state.withLock { $0.announcements } == 1)
        let spool = try Spool(folder: "\(coordinator.folder)/a/spool", report: { _ in }, fatal: { _ in })
        #expect(spool.items().count == 1)
    }

    @Test("ten thousand random messages change nothing at a querier, and the next question is answered")
    func query() async throws {
        let coordinator = try CoordinatorEnd()
        coordinator.apply(HashChain.pipeline())
        try coordinator.publish(try HashChain().initialState(key: RandomKey(seed: 1)), version: 0)
        try await QuerierTests.withQuerier(coordinator) { desk in
            let before = try await QuerierTests.ask(desk)
            let attacker = Attacker("ipc://\(coordinator.folder)/query.sock", seed: 12, verbs: ["query", "push", "reply", "hint"])
            await attacker.send(10_000)
            let after = try await QuerierTests.ask(desk)
            #expect(after == before)
        }
    }

    @Test("pieces of unfinished pushes are bounded: what does not fit is told to wait, and others go on")
    func unfinished() async throws {
        let coordinator = try CoordinatorEnd()
        coordinator.apply(HashChain.pipeline())
        try await coordinator.withWorker("a") { ingest in
            func begin(_ number: Int) async throws -> PieceReply {
                let hash = ContentHash(of: Data("\(number)".utf8))
                let push = Push(pipeline: "chain", offset: 0, totalBytes: Limits.chunkBytesMax, hash: hash)
                return try await ingest.patiently(try Message(.push, encoding: push, payload: [Data(count: Limits.pieceBytesMax)]), patient: false).read()
            }
            for await _ in coordinator.readiness { break }
            for number in 0..<2 {
                let reply = try await begin(number)
                #expect(reply == PieceReply(complete: false, received: Limits.pieceBytesMax))
            }
            await #expect { try await begin(2) } throws: { ($0 as? AccrueError)?.code == .unavailable && ($0 as? AccrueError)?.retryAfterMs != nil }
            let other = try await Producer.push(try Producer.chunk([1]), to: ingest)
            #expect(other.position == 1)
        }
    }

    @Test("a coordinator that does not know the worker yet costs an acknowledged chunk nothing, and its producer only a wait")
    func notJoined() async throws {
        let coordinator = try CoordinatorEnd()
        coordinator.apply(HashChain.pipeline())
        let chunk = try Producer.chunk([1, 2])
        let first = try await coordinator.withWorker("a") { ingest in try await Producer.push(chunk, to: ingest) }
        #expect(first.position == 1)
        coordinator.state.withLock { $0.refusesAnnouncement = { _ in AccrueError(.notFound, while: "hearing worker 'a'", "it is not joined") } }
        try await coordinator.withWorker("a") { ingest in
            await #expect { try await Producer.push(chunk, to: ingest, patient: false) } throws: {
                ($0 as? AccrueError)?.code == .unavailable && ($0 as? AccrueError)?.retryAfterMs != nil
            }
            coordinator.state.withLock { $0.refusesAnnouncement = { _ in AccrueError(.conflict, while: "announcing", "the key has other content") } }
            #expect(await Self.code(chunk, key: "k", to: ingest) == .conflict)
            let held = try await ingest.fetchChunk(first.chunk, incarnation: "i1", timeoutMs: Waiting.answerMs)
            #expect(held == chunk)
        }
    }

    @Test("a chunk that the disk damaged is not handed on, and the coordinator hears that it is not held")
    func damaged() async throws {
        let coordinator = try CoordinatorEnd()
        coordinator.apply(HashChain.pipeline())
        let values = (0..<100).map(Double.init)
        try await coordinator.withWorker("a") { ingest in
            for await _ in coordinator.readiness { break }
            let bytes = try Producer.chunk(values), acknowledgement = try await Producer.push(bytes, to: ingest)
            let folder = "\(coordinator.folder)/a/spool"
            let name = try #require(try FileManager.default.contentsOfDirectory(atPath: folder).first)
            let path = URL(fileURLWithPath: "\(folder)/\(name)"), place = try #require(try Data(contentsOf: path).range(of: bytes))
            let file = try FileHandle(forUpdating: path)
            try file.seek(toOffset: UInt64(place.upperBound - 200))
            try file.write(contentsOf: Data([0xAA]))
            await #expect { try await ingest.fetchChunk(acknowledgement.chunk, incarnation: "i1", timeoutMs: Waiting.answerMs) } throws: { ($0 as? AccrueError)?.code == .corrupt }
            // It joins again; then it has nothing to tell of.
            await coordinator.inventories(2)
        }
        #expect(coordinator.state.withLock { $0.inventories.map(\.items.count) } == [0, 0])
    }

    @Test("heartbeats go on while what follows hello takes long")
    func slowJoining() async throws {
        let coordinator = try CoordinatorEnd()
        coordinator.apply(HashChain.pipeline())
        coordinator.state.withLock { $0.isDeafTo = [.inventory] }
        try await coordinator.withWorker("a") { _ in
            var beats = 0
            for await _ in coordinator.heartbeats {
                beats += 1
                if beats == 2 { break }
            }
            coordinator.state.withLock { $0.isDeafTo = [] }
            for await _ in coordinator.readiness { break }
        }
        #expect(coordinator.state.withLock { $0.inventories.count } == 1)
    }
}
