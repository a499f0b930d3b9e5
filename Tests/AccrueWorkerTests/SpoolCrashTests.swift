import AccrueCore
import Foundation
import Glibc
import Synchronization
import Testing

@testable import AccrueWorker

@Suite("The spool after crashes, and on disks that are full or fail")
struct SpoolCrashTests {
    static func chunk(_ payload: Data) -> LogEntry.Chunk { LogEntry.Chunk(identity: ContentHash(of: payload), key: nil, rows: 1, bytes: payload.count) }
    static func key(_ payload: Data) -> SpoolKey { SpoolKey(incarnation: "i", identity: ContentHash(of: payload)) }

    /// A whole record, padded.
    static func record(_ payload: Data, salt: UInt64?, checksum: PayloadChecksum? = nil) throws -> Data {
        var bytes = try SpoolRecord(incarnation: "i", chunk: chunk(payload), checksum: checksum ?? PayloadChecksum(of: payload)).head(payloadBytes: payload.count, salt: salt)
        bytes.append(payload)
        bytes.append(Data(count: SpoolRecord.aligned(bytes.count) - bytes.count))
        return bytes
    }

    static func put(_ spool: Spool, _ payload: Data) async throws -> Spool.Stored {
        try await withCheckedContinuation { continuation in
            spool.append(chunk(payload), incarnation: "i", bytes: payload) { continuation.resume(returning: $0) }
        }.get()
    }

    /// Stores payloads in one group; what became of each, in the order in which it was told.
    static func putTogether(_ spool: Spool, _ payloads: [Data]) async -> [Result<Spool.Stored, AccrueError>] {
        let results = Mutex<[Result<Spool.Stored, AccrueError>]>([])
        await withCheckedContinuation { (done: CheckedContinuation<Void, Never>) in
            let isPrepared = spool.prepare {
                for payload in payloads {
                    spool.append(chunk(payload), incarnation: "i", bytes: payload) { result in
                        if results.withLock({ $0.append(result); return $0.count }) == payloads.count { done.resume() }
                    }
                }
            }
            #expect(isPrepared)
        }
        return results.withLock { $0 }
    }

    @Test("cut at every single byte, a segment gives exactly the records that were finished")
    func everyLength() async throws {
        let folder = try SpoolTests.Folder()
        let inner = Data("seven of nine".utf8)
        // A chunk that looks like a segment of a spool: however it is cut, nothing in it is taken for a record.
        let forged = try Self.record(inner, salt: nil)
        let payloads = [Data("first".utf8), forged, Data(repeating: 3, count: 130)]
        let first = try folder.open()
        var ends: [Int] = []
        for payload in payloads {
            _ = try await Self.put(first, payload)
            ends.append(try Data(contentsOf: folder.segment()).count)
        }
        first.stop()
        let whole = try Data(contentsOf: folder.segment())
        let name = SpoolSegment.Name(number: 2, salt: try #require(SpoolSegment.Name(file: folder.segments[0])).salt)
        let copy = folder.path + "/" + name.file
        // The zeros behind a payload are no part of it.
        let wanted = zip(ends, payloads).map { end, payload in end - SpoolRecord.aligned(payload.count) + payload.count }
        let cuts = Array((0...whole.count).reversed())
        try whole.write(to: URL(fileURLWithPath: copy))
        // On a thread of its own, so that tests that wait are not held up.
        let misread = await WorkThreads("cutting").run { cuts.filter { length in
            guard truncate(copy, off_t(length)) == 0, let records = try? SpoolSegment(opening: name, in: folder.path).scan().records else { return true }
            return records.map(\.record.key) != payloads.indices.filter { wanted[$0] <= length }.map { Self.key(payloads[$0]) }
        } }
        #expect(misread.isEmpty)
    }

    @Test("opened with a torn tail, the spool goes on behind what was finished", arguments: [0, 1, 64, 400, 500])
    func goesOn(missing: Int) async throws {
        let folder = try SpoolTests.Folder()
        let first = try folder.open()
        let payloads = [Data("first".utf8), Data(repeating: 3, count: 130)]
        for payload in payloads { _ = try await Self.put(first, payload) }
        first.stop()
        let whole = try Data(contentsOf: folder.segment())
        try whole.dropLast(missing).write(to: folder.segment())
        let spool = try folder.open()
        #expect(spool.holds(Self.key(payloads[0])))
        // The zeros behind a payload are no part of it.
        #expect(try await Self.put(spool, payloads[1]) == (missing <= 192 - 130 ? .present : .written))
        spool.stop()
        let again = try folder.open()
        for payload in payloads { #expect(try again.bytes(of: Self.key(payload)) == payload) }
    }

    @Test("many chunks at once, over many segments, are all there after opening again")
    func manySegments() async throws {
        let folder = try SpoolTests.Folder()
        let spool = try folder.open(segmentBytesMax: 1_000)
        let payloads = (0..<200).map { Data(repeating: UInt8($0), count: 300 + $0) }
        try await withThrowingTaskGroup(of: Void.self) { group in
            for payload in payloads { group.addTask { _ = try await Self.put(spool, payload) } }
            try await group.waitForAll()
        }
        spool.stop()
        let again = try folder.open()
        for payload in payloads { #expect(try again.bytes(of: Self.key(payload)) == payload) }
        #expect(try folder.segments.count > 50)
    }

    @Test("when the disk cannot promise durability, nothing is answered, the process must end, and the disk is read anew")
    func lostDurability() async throws {
        let folder = try SpoolTests.Folder()
        let isFailing = Mutex(false)
        let (fatals, fatal) = AsyncStream<AccrueError>.makeStream()
        let spool = try Spool(folder: folder.path, segmentBytesMax: 1 << 20, aheadBytes: 0) { isFailing.withLock { $0 } ? -1 : fdatasync($0) } report: { _ in
        } fatal: { fatal.yield($0) }
        #expect(try await Self.put(spool, Data("safe".utf8)) == .written)
        isFailing.withLock { $0 = true }
        await #expect(throws: AccrueError.self) { try await Self.put(spool, Data("lost".utf8)) }
        for await error in fatals {
            #expect(error.code == .unavailable)
            break
        }
        isFailing.withLock { $0 = false }
        await #expect(throws: AccrueError.self) { try await Self.put(spool, Data("later".utf8)) }
        #expect(try folder.open().bytes(of: Self.key(Data("safe".utf8))) == Data("safe".utf8))
    }

    @Test("what is found at the start is made durable before it is held")
    func recoveredIsDurable() async throws {
        let folder = try SpoolTests.Folder()
        let first = try folder.open()
        _ = try await Self.put(first, Data("one".utf8))
        first.stop()
        let made = Mutex(0)
        _ = try Spool(folder: folder.path, segmentBytesMax: 1 << 20, aheadBytes: 0) { file in
            made.withLock { $0 += 1 }
            return fdatasync(file)
        } report: { _ in } fatal: { _ in }
        #expect(made.withLock { $0 } == 1)
        #expect(throws: AccrueError.self) {
            try Spool(folder: folder.path, segmentBytesMax: 1 << 20, aheadBytes: 0) { _ in -1 } report: { _ in } fatal: { _ in }
        }
    }

    /// A disk of one MiB, if this process may make one.
    struct SmallDisk: ~Copyable {
        let path: String
        init?() {
            path = NSTemporaryDirectory() + "disk-\(UUID().uuidString)"
            guard mkdir(path, 0o700) == 0 else { return nil }
            guard mount("tmpfs", path, "tmpfs", 0, "size=1m") == 0 else {
                rmdir(path)
                return nil
            }
        }
        deinit {
            umount2(path, 2)
            rmdir(path)
        }
    }

    @Test("on a full disk a push is refused, what was stored stays, and when there is room again pushing goes on")
    func fullDisk() async throws {
        guard let disk = SmallDisk() else { return }
        let filler = disk.path + "/filler"
        let spool = try Spool(folder: disk.path + "/spool", aheadBytes: 4_096, report: { _ in }, fatal: { Issue.record("a full disk is not the end: \($0)") })
        let small = Data(repeating: 1, count: 1_000), large = Data(repeating: 2, count: 900_000)
        #expect(try await Self.put(spool, small) == .written)
        try Data(repeating: 0, count: 500_000).write(to: URL(fileURLWithPath: filler))
        do {
            _ = try await Self.put(spool, large)
            Issue.record("there was no room")
        } catch let error as AccrueError {
            #expect(error.code == .unavailable && error.retryAfterMs != nil && error.problem == "No space left on device")
        }
        #expect(try spool.bytes(of: Self.key(small)) == small && !spool.holds(Self.key(large)))
        #expect(try await Self.put(spool, Data("fits".utf8)) == .written)
        try FileManager.default.removeItem(atPath: filler)
        #expect(try await Self.put(spool, large) == .written)
        spool.stop()
        let again = try Spool(folder: disk.path + "/spool", report: { Issue.record("\($0)") }, fatal: { _ in })
        #expect(try again.items().count == 3 && again.bytes(of: Self.key(large)) == large)
    }

    @Test("without room for zeros ahead records are stored without them")
    func noRoomAhead() async throws {
        guard let disk = SmallDisk() else { return }
        let spool = try Spool(folder: disk.path + "/spool", report: { _ in }, fatal: { Issue.record("a full disk is not the end: \($0)") })
        try Data(repeating: 0, count: 950_000).write(to: URL(fileURLWithPath: disk.path + "/filler"))
        for number in 0..<20 { #expect(try await Self.put(spool, Data(repeating: UInt8(number), count: 1_000)) == .written) }
        spool.stop()
        let again = try Spool(folder: disk.path + "/spool", report: { Issue.record("\($0)") }, fatal: { _ in })
        #expect(again.items().count == 20)
    }

    @Test("of small chunks that come together and do not all have room, exactly those are held that were told to be written")
    func fullForSome() async throws {
        guard let disk = SmallDisk() else { return }
        let spool = try Spool(folder: disk.path + "/spool", report: { _ in }, fatal: { Issue.record("a full disk is not the end: \($0)") })
        #expect(try await Self.put(spool, Data("first".utf8)) == .written)
        try Data(repeating: 0, count: 420_000).write(to: URL(fileURLWithPath: disk.path + "/filler"))
        // Each comes twice: the second one is there only if the first one is.
        let payloads = (0..<40).flatMap { number in [Data](repeating: Data(repeating: UInt8(number), count: 20_000), count: 2) }
        var told: [Spool.Stored: Int] = [:], refused = 0
        for result in await Self.putTogether(spool, payloads) {
            switch result {
            case .success(let stored): told[stored, default: 0] += 1
            case .failure(let error):
                #expect(error.code == .unavailable && error.problem == "No space left on device")
                refused += 1
            }
        }
        let held = Set(payloads).filter { spool.holds(Self.key($0)) }
        #expect((1..<40).contains(held.count))
        #expect(told == [.written: held.count, .present: held.count] && refused == 2 * (40 - held.count))
        spool.stop()
        let again = try Spool(folder: disk.path + "/spool", report: { Issue.record("\($0)") }, fatal: { _ in })
        #expect(again.items().count == held.count + 1)
        for payload in held { #expect(try again.bytes(of: Self.key(payload)) == payload) }
    }

    @Test("small chunks that come together fill one segment after the other, each payload at a multiple of 64 bytes")
    func togetherOverSegments() async throws {
        let folder = try SpoolTests.Folder(), spool = try folder.open(segmentBytesMax: 20_000, ahead: 16_384)
        let payloads = (0..<60).map { Data("<\($0)>".utf8) + Data(repeating: UInt8($0 + 1), count: 1_000 + $0) }
        for result in await Self.putTogether(spool, payloads) { #expect(result == .success(.written)) }
        // One record may begin before the end of a segment and go beyond it.
        let segments = try folder.segments
        #expect(segments.count >= 4)
        var files: [Data] = []
        for index in segments.indices { files.append(try Data(contentsOf: folder.segment(index))) }
        #expect(files.allSatisfy { $0.count <= 20_000 + 2_048 })
        for payload in payloads { #expect(files.compactMap { $0.range(of: payload)?.lowerBound }.map { $0 % 64 } == [0]) }
        spool.stop()
        let again = try folder.open(segmentBytesMax: 20_000)
        #expect(again.items().count == payloads.count)
        for payload in payloads { #expect(try again.bytes(of: Self.key(payload)) == payload) }
    }

    @Test("files that are no segments are left alone")
    func strangers() async throws {
        let folder = try SpoolTests.Folder()
        for name in ["5.spool", "-00000000001.spool", "000000000000.spool", "notes.txt"] { try Data("x".utf8).write(to: URL(fileURLWithPath: folder.path + "/" + name)) }
        let spool = try folder.open()
        #expect(try await Self.put(spool, Data("one".utf8)) == .written)
        #expect(try folder.segments.count == 5)
    }

    @Test("a decision to drop is old when the chunk was used since it was asked for")
    func oldDecision() async throws {
        let folder = try SpoolTests.Folder()
        let spool = try folder.open()
        let payload = Data("one".utf8)
        _ = try await Self.put(spool, payload)
        let key = Self.key(payload)
        let listed = try #require(spool.items().first)
        spool.pin(key)
        spool.unpin(key)
        #expect(!spool.drop(key, asListed: listed))
        #expect(spool.drop(key, asListed: spool.items()[0]))
    }

    @Test("a chunk that is damaged while it is held is found out, and can be disowned; its segment stays")
    func damaged() async throws {
        let folder = try SpoolTests.Folder()
        let spool = try folder.open()
        let payload = Data(repeating: 7, count: 1_000)
        _ = try await Self.put(spool, payload)
        try spool.check(Self.key(payload))
        // In place, for the spool has the file open.
        let file = try FileHandle(forUpdating: folder.segment())
        try file.seek(toOffset: try file.seekToEnd() - 500)
        try file.write(contentsOf: Data([8]))
        let error = #expect(throws: AccrueError.self) { try spool.check(Self.key(payload)) }
        #expect(error?.code == .corrupt)
        spool.disown(Self.key(payload))
        #expect(!spool.holds(Self.key(payload)))
        #expect(try folder.segments.count == 1)
    }
}
