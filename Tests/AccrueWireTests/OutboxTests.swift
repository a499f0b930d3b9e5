import AccrueCore
import Foundation
import Testing

@testable import AccrueWire

@Suite("What waits for peers that cannot take it")
struct OutboxTests {
    static let slow = Peer(Data("slow".utf8)), away = Peer(Data("away".utf8))
    static let start = MonotonicTime(nanoseconds: 0)

    @Test("bounded in number and bytes for each peer, in bytes for all; room comes back when something is sent")
    func bounds() {
        var outbox = Outbox(messagesMax: 2, bytesMax: 160)
        func peer(_ number: UInt8) -> Peer { Peer(Data([number])) }
        let messages: [(sizes: [Int], peer: Peer)] = [
            ([20, 10], Self.slow), ([10], Self.slow), ([0], Self.slow), ([41], Self.away), ([40], Self.away), ([40], peer(1)), ([30], peer(2)), ([11], peer(3)),
        ]
        let taken = messages.map { message in outbox.append(message.sizes.map { Data(count: $0) }, for: message.peer, at: Self.start) }
        #expect(taken == [true, true, false, false, true, true, true, false])
        #expect(outbox.lost == 3 && outbox.bytes == 150)
        _ = outbox.retry(at: Self.start) { $0.count == 2 ? .sent : .full }
        #expect(outbox.bytes == 120 && outbox.holds(Self.slow))
        _ = outbox.retry(at: Self.start) { _ in .sent }
        #expect(outbox.bytes == 0 && outbox.isEmpty)
    }

    @Test("what waits for a peer that stays away is given up")
    func gone() {
        var outbox = Outbox(patienceMs: 1_000)
        for _ in 0..<3 { _ = outbox.append([Data(count: 5)], for: Self.away, at: Self.start) }
        let given = [999, 1_000].map { ms in outbox.retry(at: Self.start.adding(ms: ms)) { _ in .unreachable } }
        #expect(given == [[], [Self.away]])
        #expect(outbox.isEmpty && outbox.lost == 3 && outbox.bytes == 0)
    }
}
