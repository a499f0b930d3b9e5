import AccrueCore
import AccrueTesting
import AccrueWire
import Foundation
import Synchronization
import Testing

@testable import AccrueWorker

@Suite("A worker takes chunks", .timeLimit(.minutes(10)))
struct IngestTests {
    @Test("a push is acknowledged with its position; the same again with the same position, and stored once")
    func acknowledged() async throws {
        let coordinator = try CoordinatorEnd()
        coordinator.apply(HashChain.pipeline())
        let bytes = try Producer.chunk([1, 2, 3])
        try await coordinator.withWorker("a") { ingest in
            let first = try await Producer.push(bytes, to: ingest)
            let second = try await Producer.push(try Producer.chunk([4]), to: ingest)
            let again = try await Producer.push(bytes, to: ingest)
            #expect(first == Acknowledgement(chunk: try HashChain.rows([1, 2, 3]).identity, position: 1, duplicate: false))
            #expect(second.position == 2)
            #expect(again == Acknowledgement(chunk: first.chunk, position: 1, duplicate: true))
            // Rows meant twice: another key, another place in the log, the same bytes on disk.
            #expect(try await Producer.push(bytes, key: "twice", to: ingest).position == 3)
        }
        let spool = try Spool(folder: "\(coordinator.folder)/a/spool", report: { _ in }, fatal: { _ in })
        #expect(spool.items().count == 2)
        let key = SpoolKey(incarnation: "i1", identity: try HashChain.rows([1, 2, 3]).identity)
        #expect(try spool.bytes(of: key) == bytes)
    }

    @Test("chunks of one push are taken in their order, each with its own answer; what cannot be is refused alone")
    func together() async throws {
        let coordinator = try CoordinatorEnd()
        coordinator.apply(HashChain.pipeline())
        coordinator.state.withLock { $0.refusesAnnouncement = { $0.chunk.key == "conflict" ? AccrueError(.conflict, while: "announcing", "the key has other content") : nil } }
        let chunks = try (0..<20).map { try Producer.chunk([Double($0)]) }
        try await coordinator.withWorker("a") { ingest in
            for await _ in coordinator.readiness { break }
            let results = try await Producer.push(chunks.enumerated().map { ($1, "k/\($0)") }, to: ingest)
            #expect(try results.map { try $0.get().position } == Array(1...20))
            #expect(try results.map { try $0.get().chunk } == (0..<20).map { try HashChain.rows([Double($0)]).identity })
            // Once in the log together: not one announcement each.
            #expect(coordinator.state.withLock { $0.log.map(\.chunk.key) } == (0..<20).map { "k/\($0)" })
            let mixed = try await Producer.push(
                [(chunks[0], "k/0"), (Data("abc".utf8), nil), (try Producer.chunk([100]), "conflict"), (try Producer.chunk([101]), ""), (try Producer.chunk([102]), nil), (Data(), nil)],
                to: ingest)
            #expect(mixed.map { $0.error?.code } == [nil, .corrupt, .conflict, .limitExceeded, nil, .corrupt])
            #expect(mixed[0].position == 1 && mixed[0].duplicate == true && mixed[4].position == 21 && mixed[4].duplicate == false)
            // Twice in one push is the same chunk.
            let twice = try await Producer.push([(try Producer.chunk([103]), nil), (try Producer.chunk([103]), nil)], to: ingest)
            #expect(twice.map(\.position) == [22, 22] && twice.count { $0.duplicate == true } == 1)
            for sizes in [[1], [chunks[0].count + 1], [-1], [Int.max]] {
                await #expect { try await Producer.push([(chunks[0], nil)], claiming: sizes, to: ingest) } throws: { ($0 as? AccrueError)?.code == .invalidInput }
            }
            await #expect { try await Producer.push([], to: ingest) } throws: { ($0 as? AccrueError)?.code == .invalidInput }
            let many = Array(repeating: (bytes: chunks[0], key: String?.none), count: Limits.pushChunksMax + 1)
            await #expect { try await Producer.push(many, to: ingest) } throws: { ($0 as? AccrueError)?.code == .invalidInput }
            var beside = Push(pipeline: "chain", chunks: [Push.Part(bytes: chunks[0].count)])
            beside.key = "k"
            let message = try Message(.push, encoding: beside, payload: [chunks[0]])
            await #expect { try await ingest.patiently(message) } throws: { ($0 as? AccrueError)?.code == .invalidInput }
            let unknown = try Message(.push, encoding: Push(pipeline: "nobody", chunks: [Push.Part(bytes: chunks[0].count)]), payload: [chunks[0]])
            await #expect { try await ingest.patiently(unknown) } throws: { ($0 as? AccrueError)?.code == .notFound }
        }
        let spool = try Spool(folder: "\(coordinator.folder)/a/spool", report: { _ in }, fatal: { _ in })
        #expect(spool.items().count == 22)
    }

    @Test("chunks of one push that are laid down while they are hashed lie on the disk once")
    func laidTogether() async throws {
        let coordinator = try CoordinatorEnd()
        coordinator.apply(HashChain.pipeline())
        let chunks = try (0..<2).map { number in try Producer.chunk((0..<12_000).map { Double(number * 12_000 + $0) }) }
        try await coordinator.withWorker("a") { ingest in
            for await _ in coordinator.readiness { break }
            let results = try await Producer.push(chunks.map { ($0, nil) }, to: ingest)
            // What was left to be done would be done before this one is written.
            let small = try await Producer.push(try Producer.chunk([1]), to: ingest)
            #expect(results.map(\.position) == [1, 2] && small.position == 3)
        }
        let folder = "\(coordinator.folder)/a/spool"
        let sizes = try FileManager.default.contentsOfDirectory(atPath: folder).filter { $0.hasSuffix(".spool") }.map { file in
            try #require(try FileManager.default.attributesOfItem(atPath: "\(folder)/\(file)")[.size] as? Int)
        }
        // The small one comes with room for others.
        #expect(sizes.reduce(0, +) < 2 * chunks[0].count + (300 << 10), "\(sizes)")
        let damage = Mutex<[String]>([])
        let spool = try Spool(folder: folder, report: { text in damage.withLock { $0.append(text) } }, fatal: { _ in })
        #expect(spool.items().count == 3 && damage.withLock { $0 } == [])
    }

    @Test("a large chunk comes in pieces and can be fetched in ranges")
    func pieces() async throws {
        let coordinator = try CoordinatorEnd()
        coordinator.apply(HashChain.pipeline())
        let values = (0..<400_000).map(Double.init)
        let bytes = try Producer.chunk(values)
        #expect(bytes.count > 3 * Limits.pieceBytesMax)
        try await coordinator.withWorker("a") { ingest in
            let acknowledgement = try await Producer.pushInPieces(bytes, to: ingest)
            #expect(acknowledgement.position == 1)
            #expect(try await ingest.fetchChunk(acknowledgement.chunk, incarnation: "i1", timeoutMs: Waiting.answerMs) == bytes)
            let outside = try Message(.fetch, encoding: Fetch(incarnation: "i1", identity: acknowledgement.chunk, offset: bytes.count + 1, length: 1))
            await #expect(throws: AccrueError.self) { try await ingest.patiently(outside) }
            let unknown = try Message(.fetch, encoding: Fetch(incarnation: "i2", identity: acknowledgement.chunk, offset: 0, length: 1))
            await #expect { try await ingest.patiently(unknown) } throws: { ($0 as? AccrueError)?.code == .notFound }
        }
    }

    @Test("what the coordinator refuses reaches the producer, and a conflicting chunk is not kept")
    func refused() async throws {
        let coordinator = try CoordinatorEnd()
        coordinator.apply(HashChain.pipeline())
        coordinator.state.withLock { state in
            state.refusesAnnouncement = { announce in
                switch announce.chunk.key {
                case "conflict": AccrueError(.conflict, while: "announcing", "the key has other content")
                case "busy": AccrueError(.unavailable, while: "announcing", "too many wait", retryAfterMs: 20)
                default: nil
                }
            }
        }
        try await coordinator.withWorker("a") { ingest in
            for await _ in coordinator.readiness { break }
            await #expect { try await Producer.push(try Producer.chunk([1]), key: "conflict", to: ingest) } throws: { ($0 as? AccrueError)?.code == .conflict }
            await #expect { try await Producer.push(try Producer.chunk([2]), key: "busy", to: ingest, patient: false) } throws: {
                ($0 as? AccrueError)?.retryAfterMs == 20
            }
        }
        try await coordinator.withWorker("a") { _ in await coordinator.inventories(2) }
        let items = coordinator.state.withLock { $0.inventories.last?.items }
        #expect(items?.map(\.chunk.key) == ["busy"])
    }

    @Test("bad bytes cost one clear error and nothing else")
    func hostile() async throws {
        let coordinator = try CoordinatorEnd()
        coordinator.apply(HashChain.pipeline())
        let good = try Producer.chunk([1, 2, 3])
        var bad: [Data] = [Data(), Data([1, 2, 3]), Data(repeating: 0xFF, count: 100), good.dropLast(), good + Data([0]), Data(good.reversed())]
        for place in stride(from: 0, to: good.count - 24, by: 9) {
            var copy = good
            copy[place] ^= 0x81
            bad.append(copy)
        }
        bad.append(Safetensors(tensors: ["values": TensorBytes([Float(1)], shape: [1])]).encode())
        bad.append(Safetensors(tensors: ["values": TensorBytes([1.0, .nan], shape: [2])]).encode())
        bad.append(Safetensors(tensors: ["values": TensorBytes([Double](), shape: [0])]).encode())
        bad.append(Safetensors(tensors: ["other": TensorBytes([1.0], shape: [1])]).encode())
        let chunks = bad
        try await coordinator.withWorker("a") { ingest in
            for bytes in chunks {
                await #expect(throws: AccrueError.self) { try await Producer.push(bytes, to: ingest) }
            }
            let odd = [
                Message(.push), Message(.push, ["pipeline": 3]), Message(.push, ["pipeline": "chain", "offset": -5, "totalBytes": 9, "hash": "x"], payload: [good]),
                try Message(.push, encoding: Push(pipeline: "chain", key: ""), payload: [good]),
                try Message(.push, encoding: Push(pipeline: "chain", key: String(repeating: "k", count: 600)), payload: [good]),
                try Message(.push, encoding: Push(pipeline: "chain", offset: 7, totalBytes: 1 << 40, hash: ContentHash(of: good)), payload: [good]),
                try Message(.push, encoding: Push(pipeline: "chain", hash: ContentHash(of: Data())), payload: [good]), Message(.fetch), Message(.query),
                Message(.fetch, ["incarnation": "i1", "identity": .string(ContentHash(of: good).hex), "offset": -1, "length": 1]),
            ]
            for message in odd { await #expect(throws: AccrueError.self) { try await ingest.patiently(message) } }
            #expect(coordinator.state.withLock { $0.announcements } == 0)
            #expect(try await Producer.push(good, to: ingest).position == 1)
        }
    }

    @Test("a pipeline that is not known yet is asked for; one that does not exist is refused")
    func unknownPipeline() async throws {
        let coordinator = try CoordinatorEnd()
        try await coordinator.withWorker("a") { ingest in
            let chunk = try Producer.chunk([1])
            await #expect { try await Producer.push(chunk, to: ingest) } throws: { ($0 as? AccrueError)?.code == .notFound }
            coordinator.apply(HashChain.pipeline())
            #expect(try await Producer.push(chunk, to: ingest).position == 1)
        }
    }

    @Test("a worker that comes back says what it holds, and drops what it is told to")
    func inventory() async throws {
        let coordinator = try CoordinatorEnd()
        coordinator.apply(HashChain.pipeline())
        try await coordinator.withWorker("a") { ingest in
            for await _ in coordinator.readiness { break }
            for value in 0..<5 { _ = try await Producer.push(try Producer.chunk([Double(value)]), key: "k/\(value)", to: ingest) }
        }
        coordinator.state.withLock { $0.verdict = { $0.chunk.key == "k/3" ? .drop : .located } }
        for count in 2...3 { try await coordinator.withWorker("a") { _ in await coordinator.inventories(count) } }
        let (inventories, hellos) = coordinator.state.withLock { ($0.inventories, $0.hellos) }
        #expect(inventories.map(\.items.count) == [0, 5, 4])
        #expect(inventories.allSatisfy { $0.last && $0.page == 0 })
        #expect(Set(hellos.map(\.name)) == ["a"] && Set(hellos.map(\.boot)).count == 3)
    }

    @Test("inventory pages keep to the limits of a message, whatever the keys")
    func pages() throws {
        let item = Spool.Item(
            incarnation: "i", chunk: .init(identity: ContentHash(of: Data()), key: String(repeating: "\u{1}", count: Limits.keyBytesMax), rows: 1, bytes: 1))
        let pages = InventoryReport.pages(Array(repeating: item, count: 400))
        #expect(pages.map(\.count).reduce(0, +) == 400)
        for page in pages {
            #expect(page.count <= Limits.pageItemsMax)
            let message = try Message(.inventory, encoding: Inventory(worker: "w", page: 0, last: true, items: page.map { .init(incarnation: $0.incarnation, chunk: $0.chunk) }))
            #expect(throws: Never.self) { try message.frames() }
        }
        #expect(InventoryReport.pages([]).count == 1)
    }

    @Test("when the coordinator was started anew, the worker joins again and says what it holds")
    func rejoins() async throws {
        let coordinator = try CoordinatorEnd()
        coordinator.apply(HashChain.pipeline())
        try await coordinator.withWorker("a") { ingest in
            for await _ in coordinator.readiness { break }
            _ = try await Producer.push(try Producer.chunk([1]), to: ingest)
            coordinator.state.withLock { $0.boot = "another" }
            await coordinator.inventories(2)
        }
        #expect(coordinator.state.withLock { $0.inventories.map(\.items.count) } == [0, 1])
    }

    @Test("two workers cannot use one home")
    func locked() async throws {
        let coordinator = try CoordinatorEnd()
        try await coordinator.withWorker("a") { _ in
            for await _ in coordinator.readiness { break }
            await #expect { try await coordinator.withWorker("b", home: "\(coordinator.folder)/a") { _ in } } throws: { ($0 as? AccrueError)?.code == .conflict }
        }
    }

    @Test("names and endpoints that cannot work are refused with what to do")
    func settings() throws {
        for name in ["", "a/b", ".hidden", String(repeating: "x", count: 65), "ü"] {
            #expect(throws: AccrueError.self) { try MemberSettings.worker(coordinator: "", home: "/tmp", name: name) }
            #expect(throws: AccrueError.self) { try MemberSettings.querier(coordinator: "", home: "/tmp", name: name) }
        }
        for listen in ["tcp://*:5000", "tcp://192.0.2.1:5000"] {
            #expect(throws: AccrueError.self) { try MemberSettings.worker(coordinator: "", home: "/tmp", name: "a", listen: listen) }
            #expect(throws: AccrueError.self) { try MemberSettings.querier(coordinator: "", home: "/tmp", listen: listen) }
        }
        func advertised(_ advertise: String?, bound: String) throws -> String {
            try MemberSettings.worker(coordinator: "", home: "/tmp", name: "a", advertise: advertise).advertised(bound: bound)
        }
        #expect(try advertised("tcp://host:*", bound: "tcp://0.0.0.0:4711") == "tcp://host:4711")
        #expect(try advertised("tcp://host:5", bound: "tcp://0.0.0.0:4711") == "tcp://host:5")
        #expect(try advertised(nil, bound: "tcp://127.0.0.1:4711") == "tcp://127.0.0.1:4711")
    }
}
