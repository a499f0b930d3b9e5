import AccrueCore
import AccrueTesting
import Dispatch
import Foundation
import Glibc
import Synchronization
import Testing

@testable import AccrueWorker

@Suite("The spool keeps what it has answered")
struct SpoolTests {
    /// A folder that is deleted at the end, and what the spools in it said.
    final class Folder: Sendable {
        let path: String
        let reports = Mutex<[String]>([])
        init() throws {
            path = NSTemporaryDirectory() + "spool-\(UUID().uuidString)"
            try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
        }
        deinit { try? FileManager.default.removeItem(atPath: path) }

        func segment(_ index: Int = 0) throws -> URL { URL(fileURLWithPath: path + "/" + (try segments[index])) }

        /// - Parameter ahead: as `aheadBytes`; else segments end where their records do.
        func open(segmentBytesMax: Int = 64 << 20, ahead: Int = 0) throws -> Spool {
            try Spool(folder: path, segmentBytesMax: segmentBytesMax, aheadBytes: ahead) { line in
                self.reports.withLock { $0.append(line) }
            } fatal: { error in
                Issue.record("the spool lost durability: \(error)")
            }
        }
        var segments: [String] { get throws { try FileManager.default.contentsOfDirectory(atPath: path).sorted() } }
    }

    static func bytes(_ number: Int, count: Int = 1000) -> Data { Data(String(repeating: "chunk \(number) of rows; ", count: count / 8 + 8).utf8.prefix(count)) }

    static func put(_ spool: Spool, _ number: Int, key: String? = nil, count: Int = 1000) async throws -> (SpoolKey, Spool.Stored) {
        let payload = bytes(number, count: count)
        let chunk = LogEntry.Chunk(identity: ContentHash(of: payload), key: key, rows: number + 1, bytes: count)
        let result = await withCheckedContinuation { continuation in
            spool.append(chunk, incarnation: "i", bytes: payload) { continuation.resume(returning: $0) }
        }
        return (SpoolKey(incarnation: "i", identity: chunk.identity), try result.get())
    }

    @Test("chunks are read back, whole and by range, also after opening again", arguments: [0, 1, 63, 64, 65, 1000, 1_500_000], [0, 8_192])
    func reading(count: Int, ahead: Int) async throws {
        let folder = try Folder()
        var spool = try folder.open(ahead: ahead)
        let (key, stored) = try await Self.put(spool, 3, key: "k/0 \"ü\"", count: count)
        #expect(stored == .written)
        _ = try await Self.put(spool, 4, count: 77)
        for _ in 0..<2 {
            #expect(try spool.bytes(of: key) == Self.bytes(3, count: count))
            #expect(try spool.bytes(of: key, range: 10..<60) == Self.bytes(3, count: count).dropFirst(10).prefix(50))
            #expect(try spool.byteCount(of: key) == count)
            #expect(spool.items().first { $0.key == key }?.chunk.key == "k/0 \"ü\"")
            #expect(spool.items().count == 2)
            spool.stop()
            spool = try folder.open(ahead: ahead)
        }
        #expect(folder.reports.withLock { $0.isEmpty })
    }

    @Test("payloads begin at multiples of 64 bytes of the file")
    func alignment() async throws {
        let folder = try Folder()
        let spool = try folder.open()
        for number in 0..<5 { _ = try await Self.put(spool, number, key: String(repeating: "k", count: number * 17), count: 100 + number) }
        let file = try Data(contentsOf: URL(fileURLWithPath: folder.path + "/" + (try #require(try folder.segments.first))))
        for number in 0..<5 {
            let place = try #require(file.range(of: Self.bytes(number, count: 100 + number)))
            #expect(place.lowerBound % 64 == 0)
        }
    }

    @Test("the same chunk is stored once, also when it is pushed many times at once")
    func once() async throws {
        let folder = try Folder()
        let spool = try folder.open()
        let stored = try await withThrowingTaskGroup(of: Spool.Stored.self) { group in
            for _ in 0..<20 { group.addTask { try await Self.put(spool, 1).1 } }
            return try await group.reduce(into: []) { $0.append($1) }
        }
        #expect(stored.count { $0 == .written } == 1)
        #expect(spool.items().count == 1)
        let file = try Data(contentsOf: URL(fileURLWithPath: folder.path + "/" + (try #require(try folder.segments.first))))
        #expect(file.count < 2500)
    }

    @Test("a tail cut anywhere loses only the record it belongs to, and writing goes on", arguments: Array(stride(from: 1, to: 1400, by: 97)))
    func torn(cut: Int) async throws {
        let folder = try Folder()
        let first = try folder.open()
        let (kept, _) = try await Self.put(first, 1)
        let (torn, _) = try await Self.put(first, 2)
        first.stop()
        let path = folder.path + "/" + (try #require(try folder.segments.first))
        let whole = try Data(contentsOf: URL(fileURLWithPath: path))
        try whole.dropLast(min(cut, whole.count / 2 - 1)).write(to: URL(fileURLWithPath: path))
        let spool = try folder.open()
        #expect(try spool.bytes(of: kept) == Self.bytes(1))
        // The zeros after a payload are not part of it, but a record without them was never finished.
        if spool.holds(torn) { #expect(try spool.bytes(of: torn) == Self.bytes(2)) } else { #expect(folder.reports.withLock { $0.count } == 1) }
        let (later, _) = try await Self.put(spool, 3)
        spool.stop()
        let again = try folder.open()
        #expect(try again.bytes(of: later) == Self.bytes(3))
        #expect(try again.bytes(of: kept) == Self.bytes(1))
    }

    @Test("a damaged record is reported and left out; those around it stay", arguments: [8, 70, 330, 700, 1300, 1500])
    func damaged(at offset: Int) async throws {
        let folder = try Folder()
        let first = try folder.open()
        var keys: [SpoolKey] = []
        for number in 0..<4 { keys.append(try await Self.put(first, number).0) }
        first.stop()
        let path = folder.path + "/" + (try #require(try folder.segments.first))
        var file = try Data(contentsOf: URL(fileURLWithPath: path))
        let record = file.count / 4
        for place in offset..<offset + 4 { file[place] ^= 0x5A }
        try file.write(to: URL(fileURLWithPath: path))
        let spool = try folder.open()
        let lost = offset / record
        for number in 0..<4 where number != lost { #expect(try spool.bytes(of: keys[number]) == Self.bytes(number)) }
        #expect(!spool.holds(keys[lost]))
        #expect(folder.reports.withLock { $0.count } == 1)
    }

    @Test("random bytes in place of a segment are survived")
    func garbage() async throws {
        let folder = try Folder()
        var random = SystemRandomNumberGenerator()
        let garbage = Data((0..<100_000).map { _ in UInt8.random(in: 0...255, using: &random) })
        try garbage.write(to: URL(fileURLWithPath: folder.path + "/000000000007.spool"))
        try Data("ACCRUESP".utf8).write(to: URL(fileURLWithPath: folder.path + "/000000000003.spool"))
        let spool = try folder.open()
        let (key, _) = try await Self.put(spool, 1)
        #expect(try spool.bytes(of: key) == Self.bytes(1))
        #expect(!folder.reports.withLock { $0.isEmpty })
    }

    @Test("a segment whose chunks are all dropped is deleted; others stay")
    func dropping() async throws {
        let folder = try Folder()
        let spool = try folder.open(segmentBytesMax: 2000)
        var keys: [SpoolKey] = []
        for number in 0..<6 { keys.append(try await Self.put(spool, number).0) }
        #expect(try folder.segments.count == 3)
        #expect(spool.drop(keys[0]))
        #expect(try folder.segments.count == 3)
        #expect(spool.drop(keys[1]))
        #expect(!spool.drop(keys[1]))
        #expect(try folder.segments.count == 2)
        #expect(try spool.bytes(of: keys[2]) == Self.bytes(2))
        #expect(throws: AccrueError.self) { try spool.bytes(of: keys[0]) }
        // The segment that is being written goes when the next one is begun.
        spool.drop(keys[4])
        spool.drop(keys[5])
        _ = try await Self.put(spool, 7)
        #expect(try folder.segments.count == 2)
        spool.stop()
        #expect(try folder.open().items().count == 3)
    }

    @Test("a chunk whose announcement is under way is not dropped; one that the log knows is not given up as unknown")
    func pinned() async throws {
        let folder = try Folder()
        let spool = try folder.open()
        let (key, _) = try await Self.put(spool, 1)
        spool.pin(key)
        spool.pin(key)
        spool.unpin(key)
        #expect(!spool.drop(key))
        spool.unpin(key)
        spool.markKnown(key)
        #expect(!spool.drop(key, onlyUnknown: true))
        #expect(spool.drop(key))
        #expect(try await Self.put(spool, 1).1 == .written)
    }

    @Test("what was dropped stays dropped after opening again; what was pushed again after that is there")
    func droppedForGood() async throws {
        let folder = try Folder()
        let spool = try folder.open()
        var keys: [SpoolKey] = []
        for number in 0..<4 { keys.append(try await Self.put(spool, number).0) }
        spool.drop(keys[1])
        spool.drop(keys[2])
        #expect(try await Self.put(spool, 2).1 == .written)
        spool.stop()
        let again = try folder.open()
        #expect(Set(again.items().map(\.key)) == [keys[0], keys[2], keys[3]])
        #expect(try again.bytes(of: keys[2]) == Self.bytes(2))
    }

    @Test("work given before a group goes before it, and what it appends is in that group")
    func prepared() async throws {
        let folder = try Folder()
        let syncs = Mutex(0), isBusy = DispatchSemaphore(value: 0), mayGoOn = DispatchSemaphore(value: 0)
        let spool = try Spool(folder: folder.path, segmentBytesMax: 1 << 20, aheadBytes: 0) { file in
            let number = syncs.withLock { syncs in
                syncs += 1
                return syncs
            }
            if number == 1 {
                isBusy.signal()
                mayGoOn.wait()
            }
            return fdatasync(file)
        } report: { _ in } fatal: { _ in }
        async let first = Self.put(spool, 1)
        // The spool's thread is with the disk from here on.
        try await onOwnThread { isBusy.wait() }
        let bytes = Self.bytes(2), chunk = LogEntry.Chunk(identity: ContentHash(of: Self.bytes(2)), key: nil, rows: 1, bytes: 1000)
        let stored = Mutex<[Spool.Stored]>([])
        let isTaken = spool.prepare { [weak spool] in
            spool?.append(chunk, incarnation: "i", bytes: bytes) { result in if let done = try? result.get() { stored.withLock { $0.append(done) } } }
        }
        #expect(isTaken)
        async let second = Self.put(spool, 3)
        // Whatever waits now is written in one group.
        while spool.shared.withLock({ $0.waiting.isEmpty }) { await Task.yield() }
        mayGoOn.signal()
        _ = try await (first, second)
        #expect(stored.withLock { $0 } == [.written])
        #expect(syncs.withLock { $0 } == 2)
        spool.stop()
        #expect(!spool.prepare { Issue.record("a stopped spool does no work") })
    }

    @Test("a stopped spool refuses, after it has finished what it was given")
    func stopped() async throws {
        let folder = try Folder()
        let spool = try folder.open()
        _ = try await Self.put(spool, 1)
        spool.stop()
        await #expect(throws: AccrueError.self) { try await Self.put(spool, 2) }
    }
}
