public import AccrueCore
import Dispatch
public import Foundation
import Glibc
import Synchronization

/// A worker's chunks on disk: append-only segment files, made durable in groups by a thread of their own.
///
/// What `append` has answered survives the process and the machine. A chunk is stored once however often it is pushed. When the disk cannot promise
/// durability any more (a failed fdatasync), `fatal` is called and nothing is ever answered again: the process must end and read the disk anew.
public final class Spool: Sendable {
    public typealias Completion = @Sendable (Result<Stored, AccrueError>) -> Void

    public enum Stored: Equatable, Sendable {
        case written
        /// The chunk was there before; nothing was written.
        case present
    }

    /// A chunk that the spool holds.
    public struct Item: Equatable, Sendable {
        public var incarnation: String
        public var chunk: LogEntry.Chunk
        public var key: SpoolKey { SpoolKey(incarnation: incarnation, identity: chunk.identity) }
    }

    private struct Entry {
        var item: Item
        var segment: SpoolSegment
        var offset: Int
        var byteCount: Int
        /// The coordinator knows it.
        var isKnown = false
    }

    struct Append: Sendable {
        var record: SpoolRecord
        var payload: Data
        /// Nil for the record of a drop, for which nobody waits.
        var completion: Completion?
    }

    private struct Shared {
        var entries: [SpoolKey: Entry] = [:]
        /// Entries by segment number: one that falls to zero is deleted, unless it is being written.
        var live: [Int: Int] = [:]
        var segments: [Int: SpoolSegment] = [:]
        var writing: Int?
        var pins: [SpoolKey: Int] = [:]
        var waiting: [Append] = []
        var isStopped = false
    }

    private let folder: String
    private let segmentBytesMax: Int
    private let fatal: @Sendable (AccrueError) -> Void
    private let report: @Sendable (String) -> Void
    private let shared = Mutex(Shared())
    private let wake = DispatchSemaphore(value: 0)

    /// Opens the spool in a directory, reading and checking all of it. A torn tail is cut off; damaged records are reported and left out.
    /// - Parameters:
    ///   - segmentBytesMax: after this many bytes a new segment file is begun.
    ///   - report: told, in one line, what was found damaged.
    ///   - fatal: called once, on the spool's thread, when durability was lost; must end the process.
    /// - Throws: `unavailable` when the directory or a file in it cannot be used, `corrupt` when the disk gives no bytes.
    public init(
        folder: String, segmentBytesMax: Int = 64 << 20, report: @escaping @Sendable (String) -> Void, fatal: @escaping @Sendable (AccrueError) -> Void
    ) throws(AccrueError) {
        self.folder = folder
        self.segmentBytesMax = segmentBytesMax
        self.fatal = fatal
        self.report = report
        do { try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700]) } catch {
            throw AccrueError(.unavailable, while: "opening spool \(folder)", "\(error)", hint: "choose a home that can be written")
        }
        try recover()
        let thread = Thread { [weak self, wake] in
            while true {
                wake.wait()
                guard let spool = self, spool.write() else { return }
            }
        }
        thread.name = "spool"
        thread.start()
    }

    deinit { wake.signal() }

    /// Stores a chunk; `completion` is called on the spool's thread when it is durable, or cannot be stored.
    public func append(_ chunk: LogEntry.Chunk, incarnation: String, bytes: Data, completion: @escaping Completion) {
        let append = Append(
            record: SpoolRecord(incarnation: incarnation, chunk: chunk, checksum: ContentHash(of: bytes)), payload: bytes, completion: completion)
        let isStopped = shared.withLock { shared in
            if !shared.isStopped { shared.waiting.append(append) }
            return shared.isStopped
        }
        if isStopped { completion(.failure(Self.stopped)) } else { wake.signal() }
    }

    /// The bytes of a chunk, as they were pushed.
    /// - Throws: `notFound` when the spool does not hold it, `corrupt` when the disk does not give its bytes.
    public func bytes(of key: SpoolKey, range: Range<Int>? = nil) throws(AccrueError) -> Data {
        let place = try place(of: key)
        let wanted = (range ?? 0..<place.byteCount).clamped(to: 0..<place.byteCount)
        let bytes = try place.segment.read(place.offset + wanted.lowerBound, wanted.count)
        guard bytes.count == wanted.count else {
            throw AccrueError(.corrupt, while: "reading chunk \(key.identity.short)", "\(bytes.count) of \(wanted.count) bytes are in \(place.segment.path)", hint: "check the disk")
        }
        return bytes
    }

    /// Bytes of a chunk.
    public func byteCount(of key: SpoolKey) throws(AccrueError) -> Int { try place(of: key).byteCount }

    public func holds(_ key: SpoolKey) -> Bool { shared.withLock { $0.entries[key] != nil } }

    /// All chunks, by incarnation and identity.
    public func items() -> [Item] {
        shared.withLock { $0.entries.values.map(\.item) }.sorted { ($0.incarnation, $0.chunk.identity) < ($1.incarnation, $1.chunk.identity) }
    }

    /// Keeps a chunk from being dropped while its announcement is under way.
    public func pin(_ key: SpoolKey) { shared.withLock { $0.pins[key, default: 0] += 1 } }

    public func unpin(_ key: SpoolKey) {
        shared.withLock { shared in
            guard let count = shared.pins[key] else { return }
            shared.pins[key] = count > 1 ? count - 1 : nil
        }
    }

    /// Notes that the coordinator's log has the chunk.
    public func markKnown(_ key: SpoolKey) { shared.withLock { $0.entries[key]?.isKnown = true } }

    /// Gives up a chunk's bytes; a segment that holds no other is deleted. Pinned chunks stay.
    /// - Parameter onlyUnknown: leave it if the coordinator's log has it.
    /// - Returns: whether the chunk was there and is gone.
    @discardableResult
    public func drop(_ key: SpoolKey, onlyUnknown: Bool = false) -> Bool {
        let (dropped, empty) = shared.withLock { shared -> (Bool, SpoolSegment?) in
            guard let entry = shared.entries[key], shared.pins[key] == nil, !(onlyUnknown && entry.isKnown) else { return (false, nil) }
            shared.entries[key] = nil
            let empty = Self.release(entry.segment.number, &shared)
            if empty == nil, !shared.isStopped {
                shared.waiting.append(Append(record: SpoolRecord(dropping: entry.item), payload: Data(), completion: nil))
            }
            return (true, empty)
        }
        empty?.delete()
        if dropped { wake.signal() }
        return dropped
    }

    /// Ends the spool's thread when everything appended before is durable.
    public func stop() {
        shared.withLock { $0.isStopped = true }
        wake.signal()
    }

    private static let stopped = AccrueError(.unavailable, while: "storing a chunk", "the worker is stopping", hint: "send it again", retryAfterMs: 500)

    private func place(of key: SpoolKey) throws(AccrueError) -> Entry {
        guard let entry = shared.withLock({ $0.entries[key] }) else {
            throw AccrueError(.notFound, while: "reading chunk \(key.identity.short)", "this worker does not hold it", hint: "ask a worker that does")
        }
        return entry
    }

    private static func release(_ number: Int, _ shared: inout Shared) -> SpoolSegment? {
        let left = (shared.live[number] ?? 1) - 1
        shared.live[number] = left
        guard left <= 0, shared.writing != number else { return nil }
        shared.live[number] = nil
        return shared.segments.removeValue(forKey: number)
    }
}

// Reading at the start.
extension Spool {
    private func recover() throws(AccrueError) {
        let names = (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []
        let numbers = names.compactMap(SpoolSegment.number(of:)).sorted()
        for number in numbers {
            let segment = try SpoolSegment(opening: number, in: folder, creating: false)
            let scan = try segment.scan()
            for damage in scan.damaged {
                report("spool: bytes \(damage.range.lowerBound) to \(damage.range.upperBound) of \(segment.path) are damaged (\(damage.problem)); what was there is left out")
            }
            if scan.end < scan.byteCount {
                if number == numbers.last {
                    report("spool: the last \(scan.byteCount - scan.end) bytes of \(segment.path) were never finished; they are cut off")
                    try segment.truncate(to: scan.end)
                } else {
                    report("spool: the last \(scan.byteCount - scan.end) bytes of \(segment.path) are damaged; what was there is left out")
                }
            }
            shared.withLock { shared in
                shared.segments[number] = segment
                shared.live[number] = 0
                for found in scan.records { Self.enter(found.record, segment, found.offset, found.payloadBytes, &shared) }
            }
        }
        let empty = shared.withLock { shared in
            let numbers = shared.live.filter { $0.value <= 0 }.map(\.key)
            let empty = numbers.compactMap { number in
                shared.live[number] = nil
                return shared.segments.removeValue(forKey: number)
            }
            // The last one is gone on with, so that what is dropped from now on can be noted.
            shared.writing = shared.segments.keys.max()
            return empty
        }
        for segment in empty { segment.delete() }
    }

    private static func enter(_ record: SpoolRecord, _ segment: SpoolSegment, _ offset: Int, _ byteCount: Int, _ shared: inout Shared) {
        // A chunk that was dropped and pushed again may stand in two places; the later one counts.
        if let old = shared.entries.removeValue(forKey: record.key) { shared.live[old.segment.number, default: 1] -= 1 }
        if record.isDrop == true { return }
        shared.entries[record.key] = Entry(
            item: Item(incarnation: record.incarnation, chunk: record.chunk), segment: segment, offset: offset, byteCount: byteCount)
        shared.live[segment.number, default: 0] += 1
    }
}

// Writing, on the spool's thread.
extension Spool {
    private struct Written {
        var append: Append
        var segment: SpoolSegment
        var offset: Int
    }

    /// Writes and makes durable what waits.
    /// - Returns: false when the spool has ended.
    private func write() -> Bool {
        let (batch, isStopped) = shared.withLock { shared in
            defer { shared.waiting = [] }
            return (shared.waiting, shared.isStopped)
        }
        guard !batch.isEmpty else { return !isStopped }
        var written: [Written] = []
        var outcomes: [(Completion?, Result<Stored, AccrueError>)] = []
        var keys: Set<SpoolKey> = []
        do throws(AccrueError) {
            for append in batch {
                let key = append.record.key
                if append.completion == nil {
                    // No segment is begun for it, and a disk may have no room: then the coordinator says again that the bytes may go.
                    guard let segment = shared.withLock({ shared in shared.writing.flatMap { shared.segments[$0] } }) else { continue }
                    do throws(AccrueError) { _ = try place(append, in: segment) } catch where error.code == .limitExceeded {}
                    continue
                }
                guard !keys.contains(key), !holds(key) else {
                    outcomes.append((append.completion, .success(.present)))
                    continue
                }
                do throws(AccrueError) {
                    written.append(try place(append, in: try currentSegment()))
                    keys.insert(key)
                    outcomes.append((append.completion, .success(.written)))
                } catch where error.code == .limitExceeded {
                    outcomes.append((append.completion, .failure(error)))
                }
            }
            if let last = written.last { try last.segment.synchronise() }
        } catch {
            shared.withLock { $0.isStopped = true }
            fatal(error)
            for append in batch { append.completion?(.failure(Self.stopped)) }
            return false
        }
        shared.withLock { shared in
            for write in written { Self.enter(write.append.record, write.segment, write.offset, write.append.payload.count, &shared) }
        }
        for (completion, outcome) in outcomes { completion?(outcome) }
        return true
    }

    /// Writes one record behind the others.
    /// - Throws: `limitExceeded` when the disk has no room (nothing of the record is left), other codes when the disk fails.
    private func place(_ append: Append, in segment: SpoolSegment) throws(AccrueError) -> Written {
        let head = try append.record.head(payloadBytes: append.payload.count)
        let start = SpoolRecord.aligned(segment.byteCount)
        let bytes = head.count + SpoolRecord.aligned(append.payload.count)
        do {
            try segment.write(head, at: start)
            try segment.write(append.payload, at: start + head.count)
            try segment.truncate(to: start + bytes)
        } catch {
            try segment.truncate(to: start)
            throw AccrueError(
                .limitExceeded, while: "storing chunk \(append.record.chunk.identity.short) in \(folder)", error.problem,
                hint: "make room on the worker's disk, then send it again", retryAfterMs: 5_000)
        }
        return Written(append: append, segment: segment, offset: start + head.count)
    }

    /// The segment to write to; a new one when the last is full.
    private func currentSegment() throws(AccrueError) -> SpoolSegment {
        let (current, next) = shared.withLock { shared in (shared.writing.flatMap { shared.segments[$0] }, (shared.segments.keys.max() ?? 0) + 1) }
        if let current {
            if current.byteCount < segmentBytesMax { return current }
            try current.synchronise()
        }
        let segment = try SpoolSegment(opening: next, in: folder, creating: true)
        // The file's name must be as durable as its content.
        let directory = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        defer { close(directory) }
        guard directory >= 0, fsync(directory) == 0 else { throw SpoolSegment.error("making \(folder) durable") }
        let empty = shared.withLock { shared -> SpoolSegment? in
            let old = shared.writing
            shared.writing = next
            shared.segments[next] = segment
            shared.live[next] = 0
            guard let old, shared.live[old] == 0 else { return nil }
            shared.live[old] = nil
            return shared.segments.removeValue(forKey: old)
        }
        empty?.delete()
        return segment
    }
}
