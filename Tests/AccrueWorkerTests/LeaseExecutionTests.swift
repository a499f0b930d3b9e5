import AccrueCore
import AccrueTesting
import AccrueWire
import AccrueWorker
import Foundation
import Testing

@Suite("Leases, done one by one, make the version that the fold defines")
struct LeaseExecutionTests {
    /// A random log of chunks, some set aside, and everything that a coordinator would know of it.
    struct History {
        let pipeline: PipelineDeclaration
        let chunks: [Int: Rows]
        let log: [LogEntry]

        init(seed: UInt64) throws {
            var random = SplitMix(state: seed)
            let count = Int.random(in: 1...7, using: &random)
            pipeline = HashChain.pipeline(
                seed: seed, chunks: Int.random(in: 1...4, using: &random), shards: Int.random(in: 1...5, using: &random), sweeps: Int.random(in: 1...4, using: &random))
            var chunks: [Int: Rows] = [:]
            var log: [LogEntry] = []
            for position in 1...count {
                let values = (0..<Int.random(in: 1...9, using: &random)).map { _ in Double.random(in: -5...5, using: &random) }
                let rows = try HashChain.rows(values)
                chunks[position] = rows
                log.append(LogEntry(position: position, kind: .chunk(.init(identity: rows.identity, key: nil, rows: rows.count, bytes: 0))))
            }
            log.append(LogEntry(position: count + 1, kind: .cut))
            if count > 3, seed % 3 == 0 { log.append(LogEntry(position: count + 2, kind: .setAside(positions: [2], reason: "test"))) }
            self.chunks = chunks
            self.log = log
        }
    }

    /// Does one lease as a worker would: the task through the wire's bytes, blobs by their hashes, rows by their ranges.
    static func perform(_ task: LeaseTask, _ history: History, _ blobs: inout [ContentHash: Data]) throws -> LeaseExecution.Product {
        let sent = try Message(frames: try Message(.lease, encoding: task).frames()).read(LeaseTask.self)
        #expect(sent == task)
        let rows = try sent.rows.map { range in try #require(history.chunks[range.position]).rows(range.firstRow..<range.firstRow + range.rows) }
        let inputs = LeaseInputs(
            base: sent.base.flatMap { blobs[$0] }, work: sent.work.flatMap { blobs[$0] }, rows: rows, parts: sent.parts.compactMap { blobs[$0.blob] })
        let product = try LeaseExecution(method: HashChain(), task: sent).perform(inputs)
        if let blob = product.blob { blobs[ContentHash(of: blob)] = blob }
        return product
    }

    /// One round by leases; those that may run beside each other run in a random order.
    static func round(_ base: Data, version: Int, _ stretch: Stretch, rowsBefore: Int, _ history: History, _ random: inout SplitMix) throws -> (Data, Score?) {
        let pipeline = history.pipeline
        let shards = stretch.shards(pipeline.shards)
        var blobs = [ContentHash(of: base): base]
        func task(_ phase: LeasePhase, sweep: Int = 0, shard: Int = 0, work: ContentHash? = nil, rows: [RowRange] = [], parts: [LeaseTask.Shard] = [], score: Score? = nil) -> LeaseTask {
            let identity = LeaseIdentity(
                pipeline: pipeline.name, incarnation: "i", boot: "b", version: version, attempt: 0, phase: phase, sweep: sweep, shard: shard)
            return LeaseTask(
                identity: identity, declaration: pipeline, shards: shards.count, roundRows: stretch.rows, rowsBefore: rowsBefore, base: ContentHash(of: base),
                work: work, rows: rows, parts: parts, score: score)
        }
        func hash(_ product: LeaseExecution.Product) throws -> ContentHash { ContentHash(of: try #require(product.blob)) }
        var scores: [Int: Score] = [:]
        for (index, range) in stretch.scoreParts.enumerated().shuffled(using: &random) {
            scores[index] = try perform(task(.score, shard: index, rows: [range]), history, &blobs).score
        }
        var pooled: Score?
        for index in stretch.scoreParts.indices {
            guard let part = scores[index] else { continue }
            pooled = pooled.map { var all = $0; all.merge(part); return all } ?? part
        }
        var work: ContentHash?
        for sweep in 0..<pipeline.sweeps {
            var parts: [Int: LeaseTask.Shard] = [:]
            for (index, ranges) in shards.enumerated().shuffled(using: &random) {
                let product = try perform(task(.fit, sweep: sweep, shard: index, work: work, rows: ranges), history, &blobs)
                parts[index] = .init(blob: try hash(product), rows: ranges.reduce(0) { $0 + $1.rows })
            }
            work = try hash(perform(task(.merge, sweep: sweep, work: work, parts: shards.indices.compactMap { parts[$0] }), history, &blobs))
        }
        var moments: [Int: LeaseTask.Shard] = [:]
        for (index, ranges) in shards.enumerated().shuffled(using: &random) {
            let product = try perform(task(.statistics, sweep: pipeline.sweeps - 1, shard: index, work: work, rows: ranges), history, &blobs)
            moments[index] = .init(blob: try hash(product), rows: ranges.reduce(0) { $0 + $1.rows })
        }
        let finish = task(.finish, sweep: pipeline.sweeps - 1, work: work, parts: shards.indices.compactMap { moments[$0] }, score: pooled)
        return (try #require(try perform(finish, history, &blobs).blob), pooled)
    }

    @Test("over random logs, shards and sweeps the bytes are those of the fold", arguments: 1...16)
    func equal(seed: Int) throws {
        let history = try History(seed: UInt64(seed))
        let fold = RoundFold(pipeline: history.pipeline, method: HashChain())
        var random = SplitMix(state: UInt64(seed) &* 77)
        var blobs: [ContentHash: Data] = [:]
        let first = LeaseTask(
            identity: LeaseIdentity(pipeline: "chain", incarnation: "i", boot: "b", version: 0, attempt: 0, phase: .initial), declaration: history.pipeline)
        let initial = try Self.perform(first, history, &blobs)
        #expect(initial.blob == (try fold.initialState()) && initial.phases == HashChain().phases)
        var state = try fold.initialState(), version = 0, rowsBefore = 0, position = 0
        while let stretch = Stretch.next(in: history.log, after: position, chunksPerRound: history.pipeline.round.chunks) {
            position = stretch.through
            guard !stretch.chunks.isEmpty else { continue }
            version += 1
            let expected = try fold.next(state, version: version, stretch: stretch, rowsBefore: rowsBefore) { (position) throws(AccrueError) -> Rows in
                guard let rows = history.chunks[position] else { throw AccrueError(.notFound, while: "test", "\(position)") }
                return rows
            }
            let (made, score) = try Self.round(state, version: version, stretch, rowsBefore: rowsBefore, history, &random)
            #expect(made == expected.state)
            #expect(score == expected.score)
            state = expected.state
            rowsBefore += stretch.rows
        }
        #expect(version > 0)
    }

    static func fit(_ positions: [Int], poison: Double, shouldStop: Bool = false) throws -> AccrueError? {
        let rows = try HashChain.rows([1, poison])
        let identity = LeaseIdentity(pipeline: "chain", incarnation: "i", boot: "b", version: 1, attempt: 0, phase: .fit)
        let task = LeaseTask(
            identity: identity, declaration: HashChain.pipeline(), shards: 1, roundRows: 2 * positions.count, base: nil,
            rows: positions.map { RowRange(position: $0, identity: rows.identity, firstRow: 0, rows: 2) })
        let method = HashChain(poison: 13)
        let inputs = LeaseInputs(base: try method.initialState(key: RandomKey(seed: 1)), rows: positions.map { _ in rows })
        do {
            _ = try LeaseExecution(method: method, task: task).perform(inputs)
            return nil
        } catch { return error }
    }

    @Test("a method's error names the chunk when the shard has rows of only one")
    func position() throws {
        #expect(try Self.fit([4], poison: 13)?.position == 4)
        #expect(try Self.fit([4, 5], poison: 13)?.position == nil)
        #expect(try Self.fit([4, 5], poison: 13)?.code == .diverged)
        #expect(try Self.fit([4], poison: 12) == nil)
    }

    @Test("a lease without its inputs is an error, not a crash", arguments: LeasePhase.allCases.filter { $0 != .initial })
    func incomplete(phase: LeasePhase) throws {
        let identity = LeaseIdentity(pipeline: "chain", incarnation: "i", boot: "b", version: 1, attempt: 0, phase: phase)
        let task = LeaseTask(identity: identity, declaration: HashChain.pipeline(), shards: 2, roundRows: 2)
        let error = #expect(throws: AccrueError.self) { try LeaseExecution(method: HashChain(), task: task).perform(LeaseInputs()) }
        #expect(error?.code == .invalidInput)
    }
}
