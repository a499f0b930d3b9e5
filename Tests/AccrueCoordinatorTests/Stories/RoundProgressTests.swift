import AccrueCore
import AccrueTesting
import AccrueWire
import Foundation
import Testing

@testable import AccrueCoordinator

@Suite("A round under way")
struct RoundProgressTests {
    private static let lease = LeaseIdentity(pipeline: "p", incarnation: "i", boot: "b", version: 1, attempt: 0, phase: .fit)

    private static func round(shards: Int = 2, sweeps: Int = 1, scores: Bool = true, statistics: Bool = true) -> RoundProgress {
        let chunks = ["one", "two"].enumerated().map { Stretch.PositionedChunk(position: $0.offset + 3, chunk: Scene.chunk($0.element)) }
        return RoundProgress(
            version: 1, attempt: 0, stretch: Stretch(after: 2, through: 4, chunks: chunks), pipeline: HashChain.pipeline(shards: shards, sweeps: sweeps),
            phases: MethodPhases(scores: scores, statistics: statistics), base: blob("base"), baseSchema: HashChain.schema, isFirst: true,
            rowsBefore: 5)
    }

    private static func blob(_ name: String) -> ContentHash { ContentHash(of: Data(name.utf8)) }

    private static func done(_ blob: String?, score: Score? = nil) -> LeaseDone {
        LeaseDone(worker: "a", lease: lease, blob: blob.map { Self.blob($0) }, score: score, report: FitReport(steps: 1))
    }

    private static func score(rows: Int) -> Score {
        var score = Score()
        for _ in 0..<rows { score.add(error: 1, logDensity: 0.1, covered: true) }
        return score
    }

    private static func take(_ piece: Piece, _ done: LeaseDone, _ round: inout RoundProgress) -> Bool { round.take(piece, done) }

    @Test("fits of all shards, the merge, a sweep after the other, then statistics, then finish once everything is scored")
    func order() {
        var round = Self.round(sweeps: 2)
        for sweep in 0..<2 {
            #expect(round.step == .fit(sweep: sweep))
            #expect(Self.take(Piece(phase: .fit, sweep: sweep, shard: 1), Self.done("d1"), &round))
            #expect(round.step == .fit(sweep: sweep))
            #expect(Self.take(Piece(phase: .fit, sweep: sweep, shard: 0), Self.done("d0"), &round))
            #expect(Self.take(Piece(phase: .merge, sweep: sweep), Self.done("work"), &round))
        }
        for shard in 0..<2 { #expect(Self.take(Piece(phase: .statistics, sweep: 1, shard: shard), Self.done("m\(shard)"), &round)) }
        #expect(round.step == .finish)
        #expect(round.openPieces.allSatisfy { $0.phase == .score })
        for index in 0..<2 { #expect(Self.take(Piece(phase: .score, shard: index), Self.done(nil, score: Self.score(rows: 2)), &round)) }
        #expect(round.openPieces == [Piece(phase: .finish, sweep: 1)])
        let task = round.task(Piece(phase: .finish, sweep: 1), identity: Self.lease, locations: [:])
        #expect(task.parts.map(\.blob) == [Self.blob("m0"), Self.blob("m1")])
        #expect(task.score?.rows == 4)
        #expect(Self.take(Piece(phase: .finish, sweep: 1), Self.done("state"), &round))
        #expect(round.step == .made(Self.blob("state")) && round.openPieces.isEmpty && !round.needsRows)
        #expect(round.reports.count == 4)
    }

    @Test("a merge gets the deltas in shard order, however they came")
    func shardOrder() {
        var round = Self.round(scores: false)
        _ = round.take(Piece(phase: .fit, sweep: 0, shard: 1), Self.done("d1"))
        _ = round.take(Piece(phase: .fit, sweep: 0, shard: 0), Self.done("d0"))
        let task = round.task(Piece(phase: .merge, sweep: 0), identity: Self.lease, locations: [:])
        #expect(task.parts == [.init(blob: Self.blob("d0"), rows: 2), .init(blob: Self.blob("d1"), rows: 2)])
        #expect(task.rowsBefore == 5 && task.roundRows == 4 && task.base == Self.blob("base") && task.work == nil)
    }

    @Test("only what is open is taken, and a fit without a delta is no fit")
    func open() {
        var round = Self.round()
        #expect(!Self.take(Piece(phase: .merge, sweep: 0), Self.done("early"), &round))
        #expect(!Self.take(Piece(phase: .fit, sweep: 0, shard: 0), Self.done(nil), &round))
        #expect(Self.take(Piece(phase: .fit, sweep: 0, shard: 0), Self.done("d0"), &round))
        #expect(!Self.take(Piece(phase: .fit, sweep: 0, shard: 0), Self.done("again"), &round))
        #expect(!Self.take(Piece(phase: .score, shard: 5), Self.done(nil), &round))
    }

    @Test("a method without scores and statistics goes from the merge to finish")
    func short() {
        var round = Self.round(shards: 1, scores: false, statistics: false)
        #expect(round.openPieces == [Piece(phase: .fit)])
        _ = round.take(Piece(phase: .fit), Self.done("d"))
        _ = round.take(Piece(phase: .merge), Self.done("w"))
        #expect(round.openPieces == [Piece(phase: .finish)])
        #expect(round.blobs == [Self.blob("base"), Self.blob("w")])
    }

    @Test("a piece that reads rows is answerable for their chunks, a merge for all of the round")
    func blame() {
        let round = Self.round()
        #expect(round.positions(of: Piece(phase: .fit, shard: 1)) == [4])
        #expect(round.positions(of: Piece(phase: .score, shard: 0)) == [3])
        #expect(round.positions(of: Piece(phase: .merge)) == [3, 4])
    }
}
