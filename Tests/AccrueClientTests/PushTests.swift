import AccrueClient
import AccrueCore
import AccrueTesting
import AccrueWire
import Foundation
import Synchronization
import Testing

@Suite("Pushing chunks", .timeLimit(.minutes(10)))
struct PushTests {
    static func chunks(_ count: Int) -> [OutgoingChunk] { (0..<count).map { OutgoingChunk(bytes: Data("chunk \($0)".utf8), key: "k/\($0)") } }

    @Test("with window 1 chunks enter the log in their order, spread over the workers")
    func order() async throws {
        let end = try ClusterEnd()
        try end.addWorker("a")
        try end.addWorker("b")
        let chunks = Self.chunks(6)
        var positions: [Int] = []
        try await end.connection().push(count: 6, to: "p") { (index) throws(AccrueError) in chunks[index] } acknowledged: { positions.append($1.position) }
        let pushed = end.state.withLock { $0.pushed }
        #expect(positions == Array(1...6) && pushed.map(\.bytes) == chunks.map(\.bytes) && pushed.map(\.key) == chunks.map(\.key))
        #expect(pushed.count { $0.worker == "a" } == 3)
    }

    @Test("with a larger window every chunk arrives once, and acknowledgements are told in the chunks' order")
    func window() async throws {
        let end = try ClusterEnd()
        try end.addWorker("a")
        try end.addWorker("b")
        let chunks = Self.chunks(40)
        var told: [Int] = []
        try await end.connection().push(count: 40, to: "p", window: 8) { (index) throws(AccrueError) in chunks[index] } acknowledged: { index, _ in told.append(index) }
        #expect(told == Array(0..<40))
        #expect(Set(end.state.withLock { $0.pushed.map(\.bytes) }) == Set(chunks.map(\.bytes)))
    }

    @Test("small chunks go together, a fourth of the window at a time; large ones go one by one")
    func together() async throws {
        let end = try ClusterEnd(), connection = try await end.connection()
        let sizes = Mutex<[Int]>([])
        try end.addWorker("a")
        try end.bind("counting") { (message) throws(AccrueError) in
            let push: Push = try message.read()
            let parts = push.chunks ?? [Push.Part(bytes: message.payload.first?.count ?? 0)]
            sizes.withLock { $0.append(parts.count) }
            let one = Acknowledgement(chunk: ContentHash(of: Data()), position: 1, duplicate: false)
            return push.chunks == nil ? try .reply(message.id, encoding: one) : try .reply(message.id, encoding: Acknowledgements(parts.map { _ in .success(one) }))
        }
        end.state.withLock { $0.ingest = [end.address("counting")] }
        try await connection.refresh()
        for (bytes, window) in [(100, 64), (100, 3), (100_000, 64), (300_000, 64)] {
            let chunk = OutgoingChunk(bytes: Data(count: bytes))
            try await connection.push(count: 40, to: "p", window: window) { _ in chunk } acknowledged: { _, _ in }
            let groups = sizes.withLock { sizes in
                defer { sizes = [] }
                return sizes
            }
            let size = bytes == 100 && window == 64 ? 16 : bytes == 100_000 ? 2 : 1
            #expect(groups.reduce(0, +) == 40 && groups.max() == size, "\(bytes) bytes, window \(window): \(groups)")
        }
    }

    @Test("of chunks that go together one is refused: those before it are told, and it is named; one that is refused for now is sent again")
    func someRefused() async throws {
        let end = try ClusterEnd()
        let busy = Mutex(2)
        try end.addWorker("a") { (push) throws(AccrueError) in
            if push.key == "k/9" { throw AccrueError(.invalidInput, while: "testing", "not a chunk") }
            let isBusy = push.key == "k/3" && busy.withLock { count in
                count -= 1
                return count >= 0
            }
            if isBusy { throw AccrueError(.unavailable, while: "testing", "busy", retryAfterMs: 10) }
        }
        let chunks = Self.chunks(64).map { OutgoingChunk(bytes: $0.bytes, key: $0.key, title: $0.key.map { "the chunk \($0)" }) }
        let connection = try await end.connection()
        var told: [Int] = []
        let error = await #expect(throws: AccrueError.self) {
            try await connection.push(count: 64, to: "p", window: 16) { (index) throws(AccrueError) in chunks[index] } acknowledged: { index, _ in told.append(index) }
        }
        #expect(error?.code == .invalidInput && error?.operation == "testing, the chunk k/9")
        #expect(told == Array(0..<9) && busy.withLock { $0 } < 0, "\(told)")
        #expect(end.state.withLock { $0.pushed.filter { $0.key == "k/3" }.count } == 1)
    }

    @Test("a chunk larger than a piece arrives whole")
    func pieces() async throws {
        let end = try ClusterEnd()
        try end.addWorker("a")
        let bytes = Data((0..<(3 << 20) + 17).map { UInt8(truncatingIfNeeded: $0 &* 7) })
        let acknowledgement = try await end.connection().push(OutgoingChunk(bytes: bytes), to: "p")
        #expect(acknowledgement.chunk == ContentHash(of: bytes) && end.state.withLock { $0.pushed.map(\.bytes) } == [bytes])
    }

    @Test("a worker that has no room is asked again when it says so")
    func busy() async throws {
        let end = try ClusterEnd()
        let refusals = Mutex(3)
        try end.addWorker("a") { (_) throws(AccrueError) in
            let isBusy = refusals.withLock { count in
                defer { count -= 1 }
                return count > 0
            }
            if isBusy { throw AccrueError(.unavailable, while: "testing", "busy", retryAfterMs: 10) }
        }
        let acknowledgement = try await end.connection().push(Self.chunks(1)[0], to: "p")
        #expect(acknowledgement.position == 1 && refusals.withLock { $0 } == -1)
    }

    @Test("a chunk whose worker dies before it acknowledges goes to another")
    func failover() async throws {
        let end = try ClusterEnd()
        try end.bind("dying") { [weak end] _ throws(AccrueError) in
            end?.remove("dying")
            return nil
        }
        end.state.withLock { $0.ingest.append(end.address("dying")) }
        try end.addWorker("b")
        let acknowledgement = try await end.connection().push(Self.chunks(1)[0], to: "p", turn: 0)
        #expect(acknowledgement.position == 1 && end.state.withLock { $0.pushed.map(\.worker) } == ["b"])
    }

    @Test("many chunks under way at a worker that dies all go to another, and one task asks for all of them whether it lives")
    func watch() async throws {
        let end = try ClusterEnd()
        let deaf = Mutex(0), count = 40
        try end.addWorker("good")
        end.remove("good")
        try end.bind("deaf") { [weak end] _ throws(AccrueError) in
            let isLast = deaf.withLock { deaf in
                deaf += 1
                return deaf == count
            }
            // All that it will ever be sent is there, and none of it is answered.
            if isLast, let end { end.state.withLock { $0.ingest = [end.address("good")] } }
            return nil
        }
        end.state.withLock { $0.ingest.append(end.address("deaf")) }
        let connection = try await end.connection()
        let before = end.state.withLock { $0.hellos }
        try await withThrowingTaskGroup(of: Acknowledgement.self) { group in
            for number in 0..<count { group.addTask { try await connection.push(OutgoingChunk(bytes: Data("\(number)".utf8)), to: "p") } }
            try await group.waitForAll()
        }
        let pushed = Set(end.state.withLock { $0.pushed.map(\.bytes) })
        #expect(pushed == Set((0..<count).map { Data("\($0)".utf8) }))
        // Each push asks once when it is given up, before it goes elsewhere; the watch asks once a second.
        #expect(end.state.withLock { $0.hellos } - before < count + count / 2)
    }

    @Test("a chunk that is refused ends the pushing there, with the worker's error")
    func refusal() async throws {
        let end = try ClusterEnd()
        let refused = AccrueError(.invalidInput, while: "testing", "not a chunk")
        try end.addWorker("a") { (push) throws(AccrueError) in if push.key == "k/2" { throw refused } }
        let chunks = Self.chunks(6)
        let connection = try await end.connection()
        await #expect(throws: refused) {
            try await connection.push(count: 6, to: "p") { (index) throws(AccrueError) in chunks[index] } acknowledged: { _, _ in }
        }
        #expect(end.state.withLock { $0.pushed.map(\.key) } == ["k/0", "k/1"])
    }

    @Test("a refusal for now that gives no time is passed on once every worker has given it")
    func allRefuse() async throws {
        let end = try ClusterEnd()
        let refused = AccrueError(.unavailable, while: "testing", "no second worker for the copy")
        let asked = Mutex(0)
        for name in ["a", "b"] {
            try end.addWorker(name) { (_) throws(AccrueError) in
                asked.withLock { $0 += 1 }
                throw refused
            }
        }
        let connection = try await end.connection()
        await #expect(throws: refused) { try await connection.push(Self.chunks(1)[0], to: "p") }
        #expect(asked.withLock { $0 } == 2)
    }

    @Test("without a worker a push is one clear error after the client's patience")
    func noWorker() async throws {
        let end = try ClusterEnd()
        let connection = try await end.connection(absenceMs: Waiting.vainMs)
        let error = await #expect(throws: AccrueError.self) { try await connection.push(Self.chunks(1)[0], to: "p") }
        #expect(error?.code == .unavailable && error?.problem == "no worker is there")
        withExtendedLifetime(end) {}
    }

    @Test("a chunk beyond the limit is refused before it is sent")
    func tooLarge() async throws {
        let connection = try await ClusterEnd().connection()
        let chunk = OutgoingChunk(bytes: Data(count: Limits.chunkBytesMax + 1))
        await #expect { try await connection.push(chunk, to: "p") } throws: { ($0 as? AccrueError)?.code == .limitExceeded }
    }
}
