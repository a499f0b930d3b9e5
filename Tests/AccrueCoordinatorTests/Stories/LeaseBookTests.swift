import AccrueCore
import AccrueWire
import Foundation
import Testing

@testable import AccrueCoordinator

@Suite("The book of leases")
struct LeaseBookTests {
    private static func lease(_ shard: Int = 0, incarnation: String = "i") -> LeaseIdentity {
        LeaseIdentity(pipeline: "p", incarnation: incarnation, boot: "b", version: 1, attempt: 0, phase: .fit, sweep: 0, shard: shard)
    }

    private static func at(_ ms: Int) -> MonotonicTime { MonotonicTime(nanoseconds: UInt64(ms) * 1_000_000) }

    @Test("a lease is with one worker, and only that one can end it")
    func held() {
        var book = LeaseBook()
        book.give(Self.lease(), to: "a", at: Self.at(0))
        #expect(!book.mayGive(Self.lease(), at: Self.at(0)))
        let others = book.end(Self.lease(), of: "b")
        #expect(!others)
        #expect(book.workers(incarnation: "i") == 1)
        let own = book.end(Self.lease(), of: "a")
        #expect(own && book.mayGive(Self.lease(), at: Self.at(0)))
    }

    @Test("only a step that moves keeps a lease from standing still")
    func steps() {
        var book = LeaseBook()
        book.give(Self.lease(), to: "a", at: Self.at(0))
        book.moved(Self.lease(), 1, at: Self.at(900))
        book.moved(Self.lease(), 1, at: Self.at(1_800))
        #expect(book.stalled(at: Self.at(1_899), afterMs: 1_000).isEmpty)
        #expect(book.stalled(at: Self.at(1_900), afterMs: 1_000).map(\.worker) == ["a"])
    }

    @Test("each failure of the surroundings doubles the wait, up to a limit")
    func waits() {
        var book = LeaseBook()
        let timing = CoordinatorTiming()
        var waits: [Int] = []
        for _ in 0..<7 {
            book.postpone(Self.lease(), for: "no room", at: Self.at(0), timing)
            waits.append((0...10_000).first { book.mayGive(Self.lease(), at: Self.at($0)) } ?? -1)
        }
        #expect(waits == [200, 400, 800, 1_600, 3_200, 5_000, 5_000])
    }

    @Test("deaths are counted, and one is taken back when the process was only silent")
    func deaths() {
        var book = LeaseBook()
        _ = book.died(Self.lease())
        let second = book.died(Self.lease())
        book.forgive(Self.lease())
        let third = book.died(Self.lease())
        let other = book.died(Self.lease(1))
        #expect((second, third, other) == (2, 2, 1))
    }

    @Test("what is forgotten of one incarnation leaves the others alone")
    func forget() {
        var book = LeaseBook()
        for shard in 0..<2 { book.give(Self.lease(shard), to: "a\(shard)", at: Self.at(0)) }
        book.give(Self.lease(incarnation: "other"), to: "b", at: Self.at(0))
        let one = book.forget(incarnation: "i", only: Self.lease(1)).map(\.worker)
        let rest = book.forget(incarnation: "i").map(\.worker)
        #expect(one == ["a1"] && rest == ["a0"])
        #expect(book.held.values.map(\.worker) == ["b"])
    }
}
