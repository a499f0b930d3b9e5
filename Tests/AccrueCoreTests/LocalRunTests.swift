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
}
