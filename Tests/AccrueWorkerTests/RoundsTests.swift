import AccrueCore
import AccrueTesting
import AccrueWire
import Foundation
import Synchronization
import Testing

@testable import AccrueWorker

@Suite("Workers do what is leased to them", .timeLimit(.minutes(10)))
struct RoundsTests {
    /// A method that fits until it is told to stop.
    struct Endless: OpaqueMethod {
        let chain = HashChain()
        var phases: MethodPhases { chain.phases }
        func initialState(key: RandomKey) throws(AccrueError) -> Data { try chain.initialState(key: key) }
        func adopt(_ imported: Data, into state: Data, key: RandomKey) throws(AccrueError) -> Data { imported }
        func adapt(_ state: Data, from old: Schema, key: RandomKey) throws(AccrueError) -> Data { state }
        func begin(_ state: Data, round: Round, key: RandomKey) throws(AccrueError) -> Data { try chain.begin(state, round: round, key: key) }
        func fit(_ work: Data, to shard: [Rows], round: Round, key: RandomKey) throws(AccrueError) -> (delta: Data, report: FitReport) {
            while !round.shouldStop() { sched_yield() }
            throw AccrueError(.unavailable, while: "fitting", "told to stop")
        }
        func merge(_ deltas: [(delta: Data, rows: Int)], into work: Data, round: Round, key: RandomKey) throws(AccrueError) -> Data { work }
        func statistics(of work: Data, on shard: [Rows], round: Round, key: RandomKey) throws(AccrueError) -> Data? { nil }
        func score(_ state: Data, on rows: Rows, key: RandomKey) throws(AccrueError) -> Score? { nil }
        func finish(_ work: Data, round: Round, moments: [Data], scores: Score?, key: RandomKey) throws(AccrueError) -> Data { work }
        func load(_ state: Data) throws(AccrueError) -> any LoadedState { try chain.load(state) }
    }

    static func lease(
        _ phase: LeasePhase, _ coordinator: CoordinatorEnd, _ pipeline: PipelineDeclaration, version: Int = 1, sweep: Int = 0, shard: Int = 0
    ) -> LeaseTask {
        let boot = coordinator.state.withLock { $0.boot }
        return LeaseTask(
            identity: LeaseIdentity(pipeline: pipeline.name, incarnation: "i1", boot: boot, version: version, attempt: 0, phase: phase, sweep: sweep, shard: shard),
            declaration: pipeline)
    }

    static func next(_ coordinator: CoordinatorEnd) async throws -> CoordinatorEnd.Report {
        for await report in coordinator.reports { return report }
        throw AccrueError(.unavailable, while: "testing", "the reports ended")
    }

    static func done(_ task: LeaseTask, on worker: String, _ coordinator: CoordinatorEnd) async throws -> LeaseDone {
        try coordinator.give(task, to: worker)
        let report = try await next(coordinator)
        guard case .done(let done) = report else { throw AccrueError(.engine, while: "testing", "\(report)") }
        #expect(done.lease == task.identity && done.worker == worker)
        return done
    }

    static func waitUntilReady(_ count: Int, _ coordinator: CoordinatorEnd) async {
        var seen: Set<String> = []
        for await worker in coordinator.readiness {
            seen.insert(worker)
            if seen.count == count { return }
        }
    }

    @Test("a round spread over two workers, one of which holds all rows, gives the bytes of the fold")
    func round() async throws {
        let coordinator = try CoordinatorEnd()
        let pipeline = HashChain.pipeline(seed: 5, chunks: 3, shards: 3, sweeps: 2)
        coordinator.apply(pipeline)
        let values: [[Double]] = [[1, 2, 3, 4, 5], [6, 7], (0..<140_000).map(Double.init)]
        try await coordinator.withWorker("a") { ingest in
            try await coordinator.withWorker("b") { _ in
                await Self.waitUntilReady(2, coordinator)
                var chunks: [Stretch.PositionedChunk] = []
                for part in values {
                    let acknowledgement = try await Producer.pushInPieces(try Producer.chunk(part), to: ingest)
                    chunks.append(
                        .init(position: acknowledgement.position, chunk: .init(identity: acknowledgement.chunk, key: nil, rows: part.count, bytes: 0)))
                }
                let stretch = Stretch(after: 0, through: 3, chunks: chunks)
                let shards = stretch.shards(pipeline.shards)
                let locations = Dictionary(uniqueKeysWithValues: chunks.map { ($0.chunk.identity.hex, ["ipc:///nowhere.sock", coordinator.ingest("a")].suffix(1).map(\.self)) })
                var turn = 0
                func perform(_ phase: LeasePhase, sweep: Int = 0, shard: Int = 0, _ change: (inout LeaseTask) -> Void = { _ in }) async throws -> LeaseDone {
                    var task = Self.lease(phase, coordinator, pipeline, sweep: sweep, shard: shard)
                    task.shards = shards.count
                    task.roundRows = stretch.rows
                    task.locations = locations
                    change(&task)
                    turn += 1
                    return try await Self.done(task, on: turn % 2 == 0 ? "a" : "b", coordinator)
                }
                let initial = try await Self.done(Self.lease(.initial, coordinator, pipeline, version: 0), on: "a", coordinator)
                #expect(initial.phases == HashChain().phases)
                let base = try #require(initial.blob)
                var score: Score?
                for (index, range) in stretch.scoreParts.enumerated() {
                    let done = try await perform(.score, shard: index) {
                        $0.base = base
                        $0.rows = [range]
                    }
                    let part = try #require(done.score)
                    score = score.map { var all = $0; all.merge(part); return all } ?? part
                }
                var work: ContentHash?
                for sweep in 0..<pipeline.sweeps {
                    var parts: [LeaseTask.Shard] = []
                    for (shard, ranges) in shards.enumerated() {
                        let done = try await perform(.fit, sweep: sweep, shard: shard) {
                            $0.base = base
                            $0.work = work
                            $0.rows = ranges
                        }
                        parts.append(.init(blob: try #require(done.blob), rows: ranges.reduce(0) { $0 + $1.rows }))
                    }
                    let deltas = parts
                    work = try await perform(.merge, sweep: sweep) {
                        $0.base = base
                        $0.work = work
                        $0.parts = deltas
                    }.blob
                }
                var moments: [LeaseTask.Shard] = []
                for (shard, ranges) in shards.enumerated() {
                    let done = try await perform(.statistics, sweep: 1, shard: shard) {
                        $0.work = work
                        $0.rows = ranges
                    }
                    moments.append(.init(blob: try #require(done.blob), rows: ranges.reduce(0) { $0 + $1.rows }))
                }
                let parts = moments
                let finished = try await perform(.finish, sweep: 1) {
                    $0.work = work
                    $0.parts = parts
                    $0.score = score
                }
                let fold = RoundFold(pipeline: pipeline, method: HashChain())
                let expected = try fold.next(try fold.initialState(), version: 1, stretch: stretch, rowsBefore: 0) { (position) throws(AccrueError) in
                    try HashChain.rows(values[position - 1])
                }
                #expect(finished.blob == ContentHash(of: expected.state))
                #expect(score == expected.score)
                let state = try #require(finished.blob)
                #expect(coordinator.state.withLock { $0.blobs[state] } == expected.state)
            }
        }
    }

    /// A pushed chunk and a fit of it.
    static func fit(_ coordinator: CoordinatorEnd, _ pipeline: PipelineDeclaration, _ values: [Double], to ingest: Requester) async throws -> LeaseTask {
        let initial = try HashChain().initialState(key: RandomKey(seed: 1))
        coordinator.state.withLock { $0.blobs[ContentHash(of: initial)] = initial }
        let acknowledgement = try await Producer.push(try Producer.chunk(values), to: ingest)
        var task = lease(.fit, coordinator, pipeline)
        task.shards = 1
        task.roundRows = values.count
        task.base = ContentHash(of: initial)
        task.rows = [RowRange(position: acknowledgement.position, identity: acknowledgement.chunk, firstRow: 0, rows: values.count)]
        return task
    }

    @Test("an error of the method counts against the data and names the chunk; one of the surroundings does not")
    func failures() async throws {
        let coordinator = try CoordinatorEnd()
        let pipeline = HashChain.pipeline()
        coordinator.apply(pipeline)
        try await coordinator.withWorker("a", method: HashChain(poison: 13)) { ingest in
            await Self.waitUntilReady(1, coordinator)
            let poisoned = try await Self.fit(coordinator, pipeline, [1, 13], to: ingest)
            try coordinator.give(poisoned, to: "a")
            guard case .failed(let first) = try await Self.next(coordinator) else { return #expect(Bool(false)) }
            #expect(first.kind == .method && first.error.code == .diverged && first.error.position == 1)

            var missing = poisoned
            missing.identity.attempt = 1
            missing.rows[0].identity = ContentHash(of: Data("nowhere".utf8))
            try coordinator.give(missing, to: "a")
            guard case .failed(let second) = try await Self.next(coordinator) else { return #expect(Bool(false)) }
            #expect(second.kind == .environment && second.error.position == 1)

            var noBlob = poisoned
            noBlob.identity.attempt = 2
            noBlob.base = ContentHash(of: Data("no such blob".utf8))
            try coordinator.give(noBlob, to: "a")
            guard case .failed(let third) = try await Self.next(coordinator) else { return #expect(Bool(false)) }
            #expect(third.kind == .environment)

            var unknown = Self.lease(.initial, coordinator, pipeline, version: 0)
            unknown.declaration.method = "HashChian"
            try coordinator.give(unknown, to: "a")
            guard case .failed(let fourth) = try await Self.next(coordinator) else { return #expect(Bool(false)) }
            #expect(fourth.kind == .method && fourth.error.hint.contains("HashChain"))
        }
    }

    @Test("a cancelled fit stops and says nothing; the worker asks for the next lease")
    func cancelled() async throws {
        let coordinator = try CoordinatorEnd()
        let pipeline = HashChain.pipeline()
        coordinator.apply(pipeline)
        try await coordinator.withWorker("a", method: Endless()) { ingest in
            await Self.waitUntilReady(1, coordinator)
            let task = try await Self.fit(coordinator, pipeline, [1], to: ingest)
            try coordinator.give(task, to: "a")
            try coordinator.give(task, to: "a")
            try coordinator.tell(try Message(.cancel, encoding: Cancel(lease: task.identity)), to: "a")
            await Self.waitUntilReady(1, coordinator)
            let initial = try await Self.done(Self.lease(.initial, coordinator, pipeline, version: 0), on: "a", coordinator)
            #expect(initial.blob != nil)
        }
    }

    @Test("a worker that is told to end gives its lease back at once")
    func givenBack() async throws {
        let coordinator = try CoordinatorEnd()
        let pipeline = HashChain.pipeline()
        coordinator.apply(pipeline)
        let task = try await coordinator.withWorker("a", method: Endless()) { ingest in
            await Self.waitUntilReady(1, coordinator)
            let task = try await Self.fit(coordinator, pipeline, [1], to: ingest)
            try coordinator.give(task, to: "a")
            // Control messages keep their order: when this one is answered, the lease has been taken up or lies in the worker's hands.
            _ = try await Producer.push(try Producer.chunk([2]), to: ingest)
            return task
        }
        guard case .failed(let failed) = try await Self.next(coordinator) else { return #expect(Bool(false)) }
        #expect(failed.kind == .environment && failed.lease == task.identity)
    }

    @Test("a chunk that the coordinator lets go is gone")
    func dropped() async throws {
        let coordinator = try CoordinatorEnd()
        coordinator.apply(HashChain.pipeline())
        try await coordinator.withWorker("a") { ingest in
            let acknowledgement = try await Producer.push(try Producer.chunk([1]), to: ingest)
            try coordinator.tell(try Message(.drop, encoding: Drop(incarnation: "i1", identity: acknowledgement.chunk)), to: "a")
            // The drop is behind nothing but the next announcement's answer.
            _ = try await Producer.push(try Producer.chunk([2]), to: ingest)
            await #expect { try await ingest.fetchChunk(acknowledgement.chunk, incarnation: "i1", timeoutMs: Waiting.answerMs) } throws: { ($0 as? AccrueError)?.code == .notFound }
        }
    }
}
