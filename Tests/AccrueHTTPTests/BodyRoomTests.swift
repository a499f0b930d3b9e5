import AccrueCore
@testable import AccrueHTTP
import Testing

@Suite("Room for bodies")
struct BodyRoomTests {
    @Test("what others hold is refused with a time to wait, and is there again when they let go; more than there ever is is refused for good")
    func shares() throws {
        let room = BodyRoom(bytesMax: 100)
        var first: BodyRoom.Share? = try room.share(60, while: "testing")
        #expect { try room.share(41, while: "testing") } throws: { ($0 as? AccrueError)?.code == .unavailable && ($0 as? AccrueError)?.retryAfterMs != nil }
        #expect(throws: Never.self) { try room.share(40, while: "testing") }
        #expect { try room.share(101, while: "testing") } throws: { ($0 as? AccrueError)?.code == .limitExceeded }
        withExtendedLifetime(first) {}
        first = nil
        #expect(throws: Never.self) { try room.share(100, while: "testing") }
    }
}
