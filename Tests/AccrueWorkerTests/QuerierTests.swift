import AccrueCore
import AccrueTesting
import AccrueWire
import Foundation
import Synchronization
import Testing

@testable import AccrueWorker

@Suite("A querier answers from the newest version", .timeLimit(.minutes(10)))
struct QuerierTests {
    static func withQuerier(_ coordinator: CoordinatorEnd, _ body: (Requester) async throws -> Void) async throws {
        var settings = try MemberSettings.querier(coordinator: coordinator.control, home: coordinator.folder, listen: "ipc://\(coordinator.folder)/query.sock")
        settings.silenceMs = Waiting.answerMs
        let catalog = MethodCatalog(["HashChain": { (_, _) throws(AccrueError) in HashChain() }])
        let service = QuerierService(settings, catalog: catalog, report: { _ in })
        let (ends, end) = AsyncStream<Void>.makeStream()
        let running = Task { () -> AccrueError? in
            do throws(AccrueError) { try await service.run { for await _ in ends { return } } } catch { return error }
            return nil
        }
        let result: Result<Void, any Error>
        do { result = .success(try await body(try coordinator.requester(to: settings.listen))) } catch { result = .failure(error) }
        end.yield()
        if let error = await running.value { throw error }
        try result.get()
    }

    static func ask(_ desk: Requester, pipeline: String = "chain", at: Int? = nil, atLeast: Int? = nil, seed: Int? = nil) async throws -> QueryReply {
        try await desk.patiently(try Message(.query, encoding: QueryHeader(pipeline: pipeline, verb: "describe", at: at, atLeast: atLeast, seed: seed))).read()
    }

    static func states(_ count: Int) throws -> [Data] {
        let values = try HashChain.rows((0..<count).map { Double($0 + 1) })
        let run = LocalRun(
            pipeline: HashChain.pipeline(chunks: 1), method: HashChain(), rows: values, chunks: (0..<count).map { $0..<$0 + 1 })
        var states: [Data] = []
        _ = try run.run { states.append($0.state) }
        return states
    }

    @Test("answers say what they rest on, newest first served, older ones on demand")
    func answers() async throws {
        let coordinator = try CoordinatorEnd()
        coordinator.apply(HashChain.pipeline(chunks: 1))
        let states = try Self.states(3)
        try coordinator.publish(states[0], version: 0)
        try coordinator.publish(states[1], version: 1)
        try await Self.withQuerier(coordinator) { desk in
            let first = try await Self.ask(desk)
            #expect(first.version == 1 && first.absorbedChunks == 1 && first.absorbedRows == 10)
            #expect(first.header["sum"] == 1)
            #expect(try await Self.ask(desk, at: 0).header["count"] == 0)
            #expect(try await Self.ask(desk, at: 1) == first)
            await #expect { try await Self.ask(desk, at: 9) } throws: { ($0 as? AccrueError)?.code == .notFound }
            await #expect { try await Self.ask(desk, pipeline: "other") } throws: { ($0 as? AccrueError)?.code == .notFound }
            let odd = [Message(.query), Message(.push), try Message(.query, encoding: QueryHeader(pipeline: "chain", verb: "x"), payload: [Data([1, 2])])]
            for message in odd { await #expect(throws: AccrueError.self) { try await desk.patiently(message) } }
        }
    }

    @Test("a new version is served soon after its hint, and after none at the next heartbeat")
    func swaps() async throws {
        let coordinator = try CoordinatorEnd()
        coordinator.apply(HashChain.pipeline(chunks: 1))
        let states = try Self.states(4)
        try coordinator.publish(states[0], version: 0)
        try await Self.withQuerier(coordinator) { desk in
            for version in 1...3 {
                try coordinator.publish(states[version], version: version)
                var reply = try await Self.ask(desk)
                while reply.version < version { reply = try await Self.ask(desk) }
                #expect(reply.header["count"] == .integer(version))
                #expect(try await Self.ask(desk, at: version - 1).header["count"] == .integer(version - 1))
            }
        }
    }

    @Test("a question for at least a version is answered from it although the querier has not heard of it, and refused when there is none")
    func atLeast() async throws {
        let coordinator = try CoordinatorEnd()
        coordinator.apply(HashChain.pipeline(chunks: 1))
        let states = try Self.states(2)
        try coordinator.publish(states[0], version: 0)
        try await Self.withQuerier(coordinator) { desk in
            #expect(try await Self.ask(desk).version == 0)
            // From here on it hears of nothing new by itself.
            coordinator.state.withLock { $0.isDeafTo = [.pipelines] }
            try coordinator.publish(states[1], version: 1)
            #expect(try await Self.ask(desk).version == 0)
            #expect(try await Self.ask(desk, atLeast: 1).version == 1)
            #expect(try await Self.ask(desk).version == 1)
            for (at, problem) in [(nil, "its newest version is 1, and at least 2 is wanted"), (0, "version 0 was asked for, and at least 2 is wanted")] as [(Int?, String)] {
                let error = await #expect(throws: AccrueError.self) { try await Self.ask(desk, at: at, atLeast: 2) }
                #expect(error?.code == .unavailable && error?.problem == problem && error?.retryAfterMs == nil)
            }
        }
    }

    @Test("questions that come within a window are answered in one pass when it ends, others apart from them")
    func window() async throws {
        let coordinator = try CoordinatorEnd()
        coordinator.apply(HashChain.pipeline(chunks: 1))
        try coordinator.publish(try Self.states(1)[0], version: 0)
        let catalog = MethodCatalog(["HashChain": { (_, _) throws(AccrueError) in HashChain() }])
        let bulk = try coordinator.requester(to: coordinator.bulk)
        let versions = ServedVersions(
            control: try coordinator.requester(to: coordinator.control), catalog: catalog, beginThread: {}, report: { _ in }, bulk: { () throws(AccrueError) in bulk })
        try await versions.refresh()
        let windows = Mutex<[@Sendable () -> Void]>([])
        let (answers, answer) = AsyncStream<Message>.makeStream()
        let desk = QueryDesk(versions: versions, beginThread: {}, waitForOthers: { end in windows.withLock { $0.append(end) } }, send: { message, _ in answer.yield(message) })
        for (number, verb) in ["together", "describe", "together", "together"].enumerated() {
            let message = try Message(.query, id: "\(number)", encoding: QueryHeader(pipeline: "chain", verb: verb))
            #expect(desk.receive(Incoming(socket: "query", peer: Peer(Data("p".utf8)), message: message)) == .taken)
        }
        let ends = windows.withLock { $0 }
        #expect(ends.count == 4)
        var coming = answers.makeAsyncIterator()
        var told: [String: Int] = [:]
        func next() async throws {
            let message = try #require(await coming.next())
            told[try #require(message.id)] = try message.read(QueryReply.self).header["together"]?.int ?? 0
        }
        ends[0]()
        for _ in 0..<3 { try await next() }
        #expect(told == ["0": 3, "2": 3, "3": 3])
        // Two of the other windows end with nothing left to answer.
        for end in ends[1...] { end() }
        try await next()
        #expect(told["1"] == 0)
    }

    @Test("a version takes the place of an earlier one or of another incarnation's, never of a later one, and what is not served comes back")
    func swapping() throws {
        func version(_ number: Int, _ incarnation: String = "i") throws -> ServedVersion {
            let record = PosteriorRecord(
                pipeline: "chain", incarnation: incarnation, version: number, hash: ContentHash(of: Data()), bytes: 0, through: 0, absorbedChunks: 0, absorbedRows: 0,
                createdAtMs: 0)
            return try ServedVersion.ready(record, seed: 1, method: HashChain(), state: try HashChain().initialState(key: RandomKey(seed: 1)))
        }
        let newest = NewestVersions()
        #expect(try newest.swap(version(1)) == nil)
        #expect(try newest.swap(version(3))?.record.version == 1)
        #expect(try newest.swap(version(2))?.record.version == 2 && newest["chain"]?.record.version == 3)
        #expect(try newest.swap(version(0, "j"))?.record.version == 3 && newest["chain"]?.record.version == 0)
        newest.keep(only: ["chain": "j", "other": "i"])
        #expect(newest["chain"]?.record.incarnation == "j")
        newest.keep(only: ["chain": "k"])
        #expect(newest["chain"] == nil)
    }

    @Test("measuring swaps counts them, and times what is done before, meanwhile and after")
    func measuring() throws {
        let figures = try SwapMeasurement(HashChain.pipeline(), method: HashChain()).run(swaps: 20)
        #expect(figures["swaps"] == 20 && figures["asked"].map { $0 >= 0 } == true)
        #expect(["medianMs", "p99Ms", "worstMs", "askerWorstMs", "readyMedianMs", "releaseMedianMs"].allSatisfy { figures[$0].map { $0 >= 0 } == true })
        #expect(try #require(figures["medianMs"]) <= #require(figures["p99Ms"]) && #require(figures["p99Ms"]) <= #require(figures["worstMs"]))
    }

    @Test("the same question to the same version has the same key, another seed or version another")
    func keys() throws {
        func key(version: Int, seed: Int?) throws -> RandomKey {
            let record = PosteriorRecord(
                pipeline: "chain", incarnation: "i", version: version, hash: ContentHash(of: Data()), bytes: 0, through: 0, absorbedChunks: 0, absorbedRows: 0,
                createdAtMs: 0)
            let state = try HashChain().load(try HashChain().initialState(key: RandomKey(seed: 1)))
            return ServedVersion(record: record, seed: 1, state: state).key(querySeed: seed)
        }
        #expect(try key(version: 1, seed: nil) == key(version: 1, seed: 0))
        #expect(try Set([key(version: 1, seed: 0), key(version: 2, seed: 0), key(version: 1, seed: 1), key(version: 1, seed: -1)]).count == 4)
    }

    @Test("large answers are cut into frames that join to the same bytes; too large ones are refused")
    func frames() throws {
        let tensors = ["x": TensorBytes([UInt8](repeating: 7, count: 9 << 20), shape: [9 << 20])]
        let frames = try QueryDesk.frames(tensors, while: "testing")
        #expect(frames.count == 3 && frames.allSatisfy { $0.count <= Limits.frameBytesMax })
        #expect(try Safetensors.decode(Message(.reply, payload: frames).joinedPayload).tensors == tensors)
        #expect(try QueryDesk.frames([:], while: "testing").isEmpty)
        let tooLarge = ["x": TensorBytes(dtype: .u8, shape: [60 << 20], data: Data(count: 60 << 20))]
        #expect(throws: AccrueError.self) { try QueryDesk.frames(tooLarge, while: "testing") }
    }
}
