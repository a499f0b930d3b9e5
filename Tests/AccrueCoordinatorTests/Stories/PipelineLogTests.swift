import AccrueCore
import AccrueTesting
import AccrueWire
import Testing

@testable import AccrueCoordinator

@Suite("A pipeline's log in memory")
struct PipelineLogTests {
    private static func log(_ kinds: [LogEntry.Kind], chunksPerRound: Int = 2) -> PipelineLog {
        var log = PipelineLog(chunksPerRound: chunksPerRound)
        for kind in kinds { log.append(kind) }
        return log
    }

    private static func chunk(_ name: String) -> LogEntry.Kind { .chunk(Scene.chunk(name)) }

    @Test("every chunk is waiting, absorbed or set aside, and the amounts say how many are what")
    func amounts() {
        var log = Self.log([Self.chunk("a"), Self.chunk("b"), Self.chunk("c"), .setAside(positions: [2], reason: "bad")])
        log.absorb(through: 2, version: 1)
        #expect(log.standings == [1: .absorbed(version: 1), 2: .setAside(reason: "bad"), 3: .waiting])
        #expect(log.absorbed == .init(chunks: 1, rows: 2) && log.setAside == .init(chunks: 1, rows: 2) && log.waiting == .init(chunks: 1, rows: 2))
    }

    @Test("what is absorbed is not set aside any more, and what is set aside is so for its first reason")
    func once() {
        var log = Self.log([Self.chunk("a"), Self.chunk("b"), .setAside(positions: [2], reason: "first")])
        log.absorb(through: 2, version: 1)
        log.append(.setAside(positions: [1, 2, 9], reason: "second"))
        #expect(log.standings == [1: .absorbed(version: 1), 2: .setAside(reason: "first")])
        #expect(log.setAside.chunks == 1)
    }

    @Test("rounds are those that the log itself cuts, one after the other")
    func rounds() {
        var log = Self.log([.cut, Self.chunk("a"), Self.chunk("b"), Self.chunk("c"), .cut, .cut, Self.chunk("d")])
        var through: [Int] = []
        while let stretch = log.nextStretch {
            through.append(stretch.through)
            log.absorb(through: stretch.through, version: through.count)
        }
        #expect(through == [3, 5])
        #expect(log.openChunks == 1 && log.completeRounds == 0)
    }

    @Test("the next round is that of the whole log, whatever was set aside and passed by", arguments: 0..<40)
    func likeTheWholeLog(seed: UInt64) throws {
        var random = SplitMix(state: seed)
        let size = Int.random(in: 1...4, using: &random)
        var log = Self.log([], chunksPerRound: size), rounds = 0, aside = 0
        for step in 0..<300 {
            switch Int.random(in: 0..<8, using: &random) {
            case 0: log.append(.cut)
            case 1 where log.lastPosition > log.cursor:
                log.append(.setAside(positions: (0..<2).map { _ in Int.random(in: log.cursor + 1...log.lastPosition, using: &random) }, reason: "bad"))
            case 2:
                let stretch = log.nextStretch
                #expect(stretch == Stretch.next(in: log.entries, after: log.cursor, chunksPerRound: size))
                guard let stretch else { continue }
                rounds += 1
                aside += stretch.through - stretch.after - stretch.chunks.count
                if stretch.isEmpty { log.pass(through: stretch.through) } else { log.absorb(through: stretch.through, version: rounds) }
            default: log.append(Self.chunk("\(step)"))
            }
        }
        #expect(rounds > 5 && aside > 0)
    }

    @Test("content is needed while any of its positions may still be learned")
    func need() {
        var log = Self.log([.chunk(Scene.chunk("x", key: "1")), Self.chunk("b"), .chunk(Scene.chunk("x", key: "2"))])
        let content = Scene.chunk("x").identity
        log.absorb(through: 2, version: 1)
        #expect(log.need(of: content) == .located)
        log.append(.setAside(positions: [3], reason: "bad"))
        #expect(log.need(of: content) == .keep)
        #expect(log.need(of: Scene.chunk("b").identity) == .drop)
        #expect(log.need(of: Scene.chunk("never").identity) == nil)
    }
}
