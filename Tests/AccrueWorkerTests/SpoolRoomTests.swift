import AccrueCore
import Foundation
import Testing

@testable import AccrueWorker

@Suite("The room of a chunk whose bytes are on the disk before its identity is known")
struct SpoolRoomTests {
    static let payloads = (0..<3).map { Data(repeating: UInt8($0 + 1), count: 1_000) }

    static func lay(_ spool: Spool, _ payload: Data) throws -> SpoolRoom {
        let unknown = LogEntry.Chunk(identity: ContentHash(of: Data()), key: nil, rows: 1, bytes: payload.count)
        return try #require(spool.lay(unknown, incarnation: "i", bytes: payload))
    }

    static func put(_ spool: Spool, _ payload: Data, in room: SpoolRoom) async throws -> Spool.Stored {
        try await withCheckedContinuation { continuation in
            spool.append(SpoolCrashTests.chunk(payload), incarnation: "i", bytes: payload, room: room) { continuation.resume(returning: $0) }
        }.get()
    }

    @Test("what is laid down and then stored is there, also after opening again; others may be stored between")
    func stored() async throws {
        let folder = try SpoolTests.Folder()
        let spool = try folder.open()
        let rooms = [try Self.lay(spool, Self.payloads[0]), try Self.lay(spool, Self.payloads[1])]
        #expect(try await SpoolCrashTests.put(spool, Self.payloads[2]) == .written)
        for index in [1, 0] { #expect(try await Self.put(spool, Self.payloads[index], in: rooms[index]) == .written) }
        spool.stop()
        let again = try folder.open()
        for payload in Self.payloads {
            #expect(try again.bytes(of: SpoolCrashTests.key(payload)) == payload)
            try again.check(SpoolCrashTests.key(payload))
        }
        #expect(folder.reports.withLock { $0.isEmpty })
    }

    @Test("what is laid down and never stored, as in a crash, is no chunk; what lies before and behind it is held")
    func crashed() async throws {
        let folder = try SpoolTests.Folder()
        let spool = try folder.open()
        #expect(try await SpoolCrashTests.put(spool, Self.payloads[0]) == .written)
        _ = try Self.lay(spool, Self.payloads[1])
        #expect(try await SpoolCrashTests.put(spool, Self.payloads[2]) == .written)
        _ = try Self.lay(spool, Self.payloads[1])
        // What is behind it in the queue tells that the last one lies there.
        #expect(try await SpoolCrashTests.put(spool, Self.payloads[2]) == .present)
        spool.stop()
        let again = try folder.open()
        #expect(again.items().map(\.key) == [Self.payloads[0], Self.payloads[2]].map(SpoolCrashTests.key).sorted { $0.identity < $1.identity })
        #expect(folder.reports.withLock { $0.count } == 2)
        #expect(try await SpoolCrashTests.put(again, Self.payloads[1]) == .written)
    }

    @Test("a chunk that is dropped and pushed again at the same time is held after opening again, whichever record lies first", arguments: [false, true])
    func dropped(isWaiting: Bool) async throws {
        let folder = try SpoolTests.Folder()
        let spool = try folder.open(ahead: 8_192), key = SpoolCrashTests.key(Self.payloads[0])
        for payload in Self.payloads[..<2] { #expect(try await SpoolCrashTests.put(spool, payload) == .written) }
        let room: SpoolRoom
        if isWaiting {
            // The drop is asked for first, and written behind what was laid down.
            room = try await withCheckedThrowingContinuation { continuation in
                let isPrepared = spool.prepare {
                    #expect(spool.drop(key))
                    continuation.resume(with: Result { try Self.lay(spool, Self.payloads[0]) })
                }
                #expect(isPrepared)
            }
        } else {
            room = try Self.lay(spool, Self.payloads[0])
            #expect(spool.drop(key))
        }
        #expect(try await Self.put(spool, Self.payloads[0], in: room) == .written)
        spool.stop()
        let again = try folder.open()
        #expect(Set(again.items().map(\.key)) == Set(Self.payloads[..<2].map(SpoolCrashTests.key)))
        #expect(try again.bytes(of: key) == Self.payloads[0])
    }

    @Test("the room of a chunk that is there already is given back")
    func present() async throws {
        let folder = try SpoolTests.Folder()
        let spool = try folder.open(ahead: 0)
        #expect(try await SpoolCrashTests.put(spool, Self.payloads[0]) == .written)
        let count = try Data(contentsOf: folder.segment()).count
        #expect(try await Self.put(spool, Self.payloads[0], in: try Self.lay(spool, Self.payloads[0])) == .present)
        #expect(try Data(contentsOf: folder.segment()).count == count)
    }

    @Test("a room in a segment that is full meanwhile is filled there, and the segment stays although nothing else is in it")
    func earlierSegment() async throws {
        let folder = try SpoolTests.Folder()
        let spool = try folder.open(segmentBytesMax: 900, ahead: 0)
        let room = try Self.lay(spool, Self.payloads[0])
        #expect(try await SpoolCrashTests.put(spool, Self.payloads[1]) == .written)
        #expect(try await Self.put(spool, Self.payloads[0], in: room) == .written)
        spool.stop()
        #expect(try folder.segments.count == 2)
        let again = try folder.open()
        for payload in Self.payloads[..<2] { #expect(try again.bytes(of: SpoolCrashTests.key(payload)) == payload) }
        #expect(folder.reports.withLock { $0.isEmpty })
    }
}
