import AccrueCore
import AccrueTesting
import Foundation
import Testing

@Suite("A version is a fold over the log")
struct LocalRunTests {
    static let values = (0..<23).map { Double($0 * $0) }

    static func run(
        seed: UInt64 = 1, chunks: [Int] = [5, 4, 9, 5], perRound: Int = 2, shards: Int = 3, sweeps: Int = 2, values: [Double] = values
    ) throws -> [LocalRun.Version] {
        var start = 0
        let ranges = chunks.map { size in
            defer { start += size }
            return start..<start + size
        }
        let run = LocalRun(
            pipeline: HashChain.pipeline(seed: seed, chunks: perRound, shards: shards, sweeps: sweeps), method: HashChain(),
            rows: try HashChain.rows(values), chunks: ranges)
        var versions: [LocalRun.Version] = []
        _ = try run.run { versions.append($0) }
        return versions
    }

    @Test("every row is absorbed exactly once, however rounds, shards and sweeps are cut", arguments: 1...4, 1...4)
    func once(perRound: Int, shards: Int) throws {
        let last = try #require(try Self.run(perRound: perRound, shards: shards).last)
        let state = try HashChain().decode(last.state)
        #expect(state.sum == Self.values.reduce(0, +) && state.count == 23)
        #expect(last.absorbedRows == 23 && last.absorbedChunks == 4)
    }

    @Test("versions are numbered from 0 and the last, unfinished round is cut by the flush")
    func numbering() throws {
        #expect(try Self.run(perRound: 3).map(\.number) == [0, 1, 2])
        #expect(try Self.run(perRound: 3).map(\.absorbedChunks) == [0, 3, 4])
    }

    @Test("the same pipeline, seed and log give the same bytes")
    func repeatable() throws {
        #expect(try Self.run().map(\.state) == (try Self.run().map(\.state)))
    }

    @Test("another seed, another order, another cut into chunks, shards or sweeps gives other bytes")
    func sensitive() throws {
        var states: [Data?] = [try Self.run().last?.state, try Self.run(seed: 2).last?.state, try Self.run(values: Self.values.reversed()).last?.state]
        states += [try Self.run(shards: 2).last?.state, try Self.run(sweeps: 1).last?.state, try Self.run(perRound: 4).last?.state]
        states.append(try Self.run(chunks: [9, 5, 5, 4]).last?.state)
        #expect(Set(states).count == 7)
    }

    @Test("each round is scored with the version before it")
    func prequential() throws {
        let versions = try Self.run()
        #expect(versions.map { $0.score?.rows } == [nil, 9, 14])
        // Version 0 predicts the sum 0, so the first round's squared error is the sum of squares of its rows.
        let expected = Self.values.prefix(9).reduce(0) { $0 + $1 * $1 }
        #expect(versions[1].score?.squaredError == expected)
    }

    @Test("an error of the method ends the run and is passed on")
    func poison() throws {
        let run = LocalRun(
            pipeline: HashChain.pipeline(), method: HashChain(poison: 4), rows: try HashChain.rows(Self.values), chunks: [0..<23])
        #expect { try run.run { _ in } } throws: { ($0 as? AccrueError)?.code == .diverged }
    }

    private static let classes = ["a", "b"]

    /// A fold of two chunks, one a round, with entries around them.
    private static func fold(_ kinds: [LogEntry.Kind], files: [Data] = []) throws -> [LocalRun.Version] {
        let log = kinds.enumerated().map { LogEntry(position: $0.offset + 1, kind: $0.element) }
        let rows = try HashChain.rows([1, 2])
        var pipeline = HashChain.pipeline(chunks: 1)
        pipeline.schema = HashChain.schema(classes: classes)
        let run = LocalRun(pipeline: pipeline, log: log, files: Dictionary(uniqueKeysWithValues: files.map { (ContentHash(of: $0), $0) })) { (declared) in
            HashChain(schema: declared.schema)
        } rows: { (_) in rows }
        var versions: [LocalRun.Version] = []
        _ = try run.run { versions.append($0) }
        return versions
    }

    private static let chunk = LogEntry.Kind.chunk(.init(identity: ContentHash(of: Data("rows".utf8)), key: nil, rows: 2, bytes: 16))
    private static let net = Data("net".utf8)

    @Test("an import is a version that absorbs nothing, and what was counted before it stays")
    func importing() throws {
        let versions = try Self.fold([Self.chunk, .import(.init(file: ContentHash(of: Self.net))), Self.chunk], files: [Self.net])
        #expect(versions.map(\.absorbedChunks) == [0, 1, 1, 2] && versions.map(\.through) == [0, 1, 2, 3])
        #expect(versions[2].state != versions[1].state && versions[2].score == nil)
        #expect(try HashChain().decode(versions[3].state).count == 4)
        #expect(throws: AccrueError.self) { try Self.fold([.import(.init(file: ContentHash(of: Self.net)))]) }
    }

    @Test("a start is an import before the first chunk")
    func start() throws {
        let rows = try HashChain.rows([1, 2])
        var pipeline = HashChain.pipeline(chunks: 1)
        pipeline.schema = HashChain.schema(classes: Self.classes)
        let run = LocalRun(pipeline: pipeline, method: HashChain(schema: pipeline.schema), rows: rows, chunks: [0..<2], start: Self.net)
        let last = try run.run { _ in }
        #expect(last.state == (try Self.fold([.import(.init(file: ContentHash(of: Self.net))), Self.chunk], files: [Self.net])).last?.state)
        #expect(last.number == 2 && last.absorbedRows == 2)
    }

    @Test("appended classes are a version with the new schema, which is that of all versions after it")
    func appendedClasses() throws {
        let versions = try Self.fold([Self.chunk, .settings(schema: HashChain.schema(classes: Self.classes + ["c"])), Self.chunk])
        #expect(versions.map { $0.schema["labels"]?.classes?.count } == [2, 2, 3, 3])
        #expect(versions[2].state != versions[1].state && versions.map(\.absorbedRows) == [0, 2, 2, 4])
    }

    @Test("the round after appended classes is still the first when nothing was learned before; after an import it is not")
    func first() throws {
        let schema = HashChain.schema(classes: Self.classes + ["c"])
        // The toy hashes whether its round is the first: the same import twice differs from none in nothing else that it is told.
        let fold = RoundFold(pipeline: HashChain.pipeline(chunks: 1).with(schema: schema), method: HashChain(schema: schema))
        let rows = try HashChain.rows([1, 2])
        func next(_ version: LocalRun.Version, isFirst: Bool) throws -> Data {
            let log = [LogEntry(position: 1, kind: .settings(schema: schema)), LogEntry(position: 2, kind: Self.chunk)]
            let stretch = try #require(Stretch.next(in: log, after: 1, chunksPerRound: 1))
            return try fold.next(version.state, version: 2, isFirst: isFirst, stretch: stretch, rowsBefore: 0) { (_) in rows }.state
        }
        let adapted = try Self.fold([.settings(schema: schema), Self.chunk])
        #expect(try adapted[2].state == next(adapted[1], isFirst: true) && adapted[2].state != next(adapted[1], isFirst: false))
    }

    @Test("a schema is extended by more classes of a target, the old ones first and unchanged, and by nothing else")
    func extended() {
        let now = HashChain.schema(classes: Self.classes)
        func isExtended(by change: (inout Schema) -> Void) -> Bool {
            var later = now
            change(&later)
            return now.isExtended(by: later)
        }
        #expect(isExtended { $0.tensors[1].classes = ["a", "b", "c"] })
        #expect(!isExtended { _ in })
        #expect(!isExtended { $0.tensors[1].classes = ["a"] } && !isExtended { $0.tensors[1].classes = ["b", "a", "c"] } && !isExtended { $0.tensors[1].classes = nil })
        #expect(!isExtended { $0.tensors[1].classes = ["a", "b", "c"]; $0.tensors[0].dtype = .f32 } && !isExtended { $0.tensors.append($0.tensors[0]) })
        #expect(!HashChain.schema.isExtended(by: now))
    }
}
