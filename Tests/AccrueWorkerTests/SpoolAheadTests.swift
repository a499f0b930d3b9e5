import AccrueCore
import Foundation
import Testing

@testable import AccrueWorker

@Suite("The room that a segment holds ahead of its records")
struct SpoolAheadTests {
    static let ahead = 8_192

    @Test("small records take the room without making the file longer; opened again, writing goes on where the records end")
    func taken() async throws {
        let folder = try SpoolTests.Folder()
        var payloads = (0..<3).map { Data(repeating: UInt8($0 + 1), count: 500) }
        let first = try folder.open(ahead: Self.ahead)
        for payload in payloads { _ = try await SpoolCrashTests.put(first, payload) }
        first.stop()
        let count = try Data(contentsOf: folder.segment()).count
        #expect(count > Self.ahead)
        let spool = try folder.open(ahead: Self.ahead)
        payloads.append(Data(repeating: 9, count: 500))
        #expect(try await SpoolCrashTests.put(spool, payloads[3]) == .written)
        #expect(try Data(contentsOf: folder.segment()).count == count)
        spool.stop()
        let again = try folder.open()
        for payload in payloads { #expect(try again.bytes(of: SpoolCrashTests.key(payload)) == payload) }
        #expect(folder.reports.withLock { $0.isEmpty })
    }

    @Test("a large record brings no zeros with it, and a segment is no longer than it may be")
    func large() async throws {
        let folder = try SpoolTests.Folder()
        let spool = try folder.open(segmentBytesMax: 20_000, ahead: Self.ahead)
        _ = try await SpoolCrashTests.put(spool, Data(repeating: 1, count: 10_000))
        #expect(try Data(contentsOf: folder.segment()).count < 11_000)
        for number in 0..<20 { _ = try await SpoolCrashTests.put(spool, Data(repeating: UInt8(number + 2), count: 1_000)) }
        spool.stop()
        let sizes = try folder.segments.indices.map { try Data(contentsOf: folder.segment($0)).count }
        #expect(sizes.count == 2 && sizes.allSatisfy { $0 < 22_000 })
        // The one that is full was cut behind its last record.
        let full = try SpoolSegment(opening: #require(SpoolSegment.Name(file: folder.segments[0])), in: folder.path)
        #expect(try full.scan().end == sizes[0])
    }

    /// What a crash may leave of a record that was written into the room ahead: any of its parts, for a disk keeps no order among them.
    @Test("a record of which any part is missing is not taken, nor what its payload looks like; those before it are", arguments: [nil, 7 as UInt64])
    func torn(ownSalt: UInt64?) async throws {
        let folder = try SpoolTests.Folder()
        let spool = try folder.open(ahead: Self.ahead)
        let kept = Data(repeating: 5, count: 700), inner = Data("seven of nine".utf8)
        _ = try await SpoolCrashTests.put(spool, kept)
        let start = try #require(spool.shared.withLock { $0.segments.values.first?.end })
        let name = try #require(SpoolSegment.Name(file: folder.segments[0]))
        // A payload that looks like a record of a segment of another salt.
        let forged = try SpoolCrashTests.record(inner, salt: ownSalt)
        _ = try await SpoolCrashTests.put(spool, forged)
        let stop = try #require(spool.shared.withLock { $0.segments.values.first?.end })
        spool.stop()
        let path = try folder.segment(), whole = try Data(contentsOf: path)
        func keys() throws -> [SpoolKey] { try SpoolSegment(opening: name, in: folder.path).scan().records.map(\.record.key) }
        #expect(try keys() == [SpoolCrashTests.key(kept), SpoolCrashTests.key(forged)])
        for block in stride(from: start, to: stop, by: SpoolRecord.alignment) {
            let missing = block..<block + SpoolRecord.alignment
            // Zeros that are no loss leave the record whole.
            guard !whole[missing].allSatisfy({ $0 == 0 }) else { continue }
            var torn = whole
            torn.resetBytes(in: missing)
            try torn.write(to: path)
            #expect(try keys() == [SpoolCrashTests.key(kept)], "without bytes \(missing)")
        }
        // The same with the segment's own salt would be taken: that is what nobody knows.
        let own = try SpoolCrashTests.record(inner, salt: name.salt)
        try (whole.prefix(start) + Data(count: 640) + own + Data(count: Self.ahead)).write(to: path)
        #expect(try keys() == [SpoolCrashTests.key(kept), SpoolCrashTests.key(inner)])
    }

    @Test("what a crash left in the room ahead is reported, cut off, and written over")
    func goesOn() async throws {
        let folder = try SpoolTests.Folder()
        let first = try folder.open(ahead: Self.ahead)
        let payloads = (0..<2).map { Data(repeating: UInt8($0 + 1), count: 500) }
        _ = try await SpoolCrashTests.put(first, payloads[0])
        let end = try #require(first.shared.withLock { $0.segments.values.first?.end })
        first.stop()
        var bytes = try Data(contentsOf: folder.segment())
        bytes[end + 300] = 1
        try bytes.write(to: folder.segment())
        let spool = try folder.open(ahead: Self.ahead)
        #expect(folder.reports.withLock { $0.count } == 1)
        #expect(try await SpoolCrashTests.put(spool, payloads[1]) == .written)
        spool.stop()
        let again = try folder.open(ahead: Self.ahead)
        for payload in payloads { #expect(try again.bytes(of: SpoolCrashTests.key(payload)) == payload) }
        #expect(folder.reports.withLock { $0.count } == 1)
    }

    @Test("a segment of an earlier release, without salt and with SHA-256, is read and gone on with")
    func earlier() async throws {
        let folder = try SpoolTests.Folder()
        let old = Data(repeating: 4, count: 130), new = Data("new".utf8)
        let record = try SpoolCrashTests.record(old, salt: nil, checksum: .sha256(ContentHash(of: old)))
        try record.write(to: URL(fileURLWithPath: folder.path + "/00000000000a.spool"))
        let spool = try folder.open(ahead: Self.ahead)
        try spool.check(SpoolCrashTests.key(old))
        #expect(try await SpoolCrashTests.put(spool, new) == .written)
        spool.stop()
        #expect(try folder.segments == ["00000000000a.spool"])
        let again = try folder.open()
        for payload in [old, new] { #expect(try again.bytes(of: SpoolCrashTests.key(payload)) == payload) }
        var damaged = record
        damaged[record.count - 130] ^= 1
        try damaged.write(to: URL(fileURLWithPath: folder.path + "/00000000000a.spool"))
        #expect(try folder.open().items().isEmpty)
    }

    @Test("segments' names say number and salt; other names are nobody's", arguments: [
        "1.spool", "000000000001-1.spool", "000000000001-.spool", "000000000001-00000000000000001.spool", "000000000001-00000000000000AB.spool",
        "000000000000-0000000000000001.spool", "-00000000001-0000000000000001.spool", "000000000001-0000000000000001-0.spool", "000000000001-0000000000000001",
    ])
    func names(file: String) {
        #expect(SpoolSegment.Name(file: file) == nil)
        for name in [SpoolSegment.Name(number: 1, salt: nil), .init(number: 0xABC, salt: 0), .init(number: 7, salt: .max)] {
            #expect(SpoolSegment.Name(file: name.file) == name)
        }
    }

    @Test("XXH64 gives the values of its reference implementation", arguments: [
        (0, 0xef46db3751d8e999), (1, 0xa96c7f0ce858bbb7), (3, 0x56e6957632a487f9), (4, 0xc60d15b1e3ff8f04), (7, 0xafbefc3d6c6f9a8e), (8, 0x3da5c7aa269683e0),
        (31, 0x4a74f3a1a39ad4a1), (32, 0x8d57d6a4671cc43d), (33, 0x62c9fd21ed857664), (63, 0x5c320a0d2707057f), (64, 0x7bbabbc45729d17e), (100, 0xefa0ad2d3e70c151),
        (1000, 0x99594f4828043d35),
    ] as [(Int, UInt64)])
    func xxh64(count: Int, expected: UInt64) {
        let bytes = Data((0..<count).map { UInt8(truncatingIfNeeded: $0 * 31 + 7) })
        #expect(XXH64.hash(bytes) == expected)
        // Wherever the bytes lie.
        #expect(XXH64.hash((Data([0]) + bytes).dropFirst()) == expected)
    }
}
