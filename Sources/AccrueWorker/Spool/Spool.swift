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
        /// When it was stored or last pinned or unpinned: tells whether anybody used it since.
        var stamp = 0
        public var key: SpoolKey { SpoolKey(incarnation: incarnation, identity: chunk.identity) }
    }

    struct Entry {
        var item: Item
        var segment: SpoolSegment
        var offset: Int
        var byteCount: Int
        var checksum: PayloadChecksum
        /// The coordinator knows it.
        var isKnown = false
    }

    struct Append: Sendable {
        var record: SpoolRecord
        var payload: Data
        /// Where the payload lies already.
        var room: SpoolRoom?
        /// Nil for the record of a drop, for which nobody waits.
        var completion: Completion?
    }

    struct Shared {
        var entries: [SpoolKey: Entry] = [:]
        /// Entries by segment number: one that falls to zero is deleted, unless it is being written.
        var live: [Int: Int] = [:]
        var segments: [Int: SpoolSegment] = [:]
        var writing: Int?
        var pins: [SpoolKey: Int] = [:]
        var waiting: [Append] = []
        /// Those that wait for their chunk's record.
        var rooms: [SpoolRoom] = []
        /// What is to be done before the next group is written.
        var preparations: [@Sendable () -> Void] = []
        /// What is to be done after all of a group were told.
        var settled: (@Sendable () -> Void)?
        var isStopped = false
        /// Durability is lost.
        var isBroken = false
        private var clock = 0

        mutating func nextStamp() -> Int {
            clock += 1
            return clock
        }
    }

    let folder: String
    let segmentBytesMax: Int
    /// Zeros written at a time for small records to come, none for records above a quarter of it.
    let aheadBytes: Int
    let synchronise: SpoolSegment.Synchronise
    let fatal: @Sendable (AccrueError) -> Void
    let report: @Sendable (String) -> Void
    let shared = Mutex(Shared())
    private let wake = DispatchSemaphore(value: 0)

    /// Opens the spool in a directory, reading and checking all of it. A torn tail is cut off; damaged records are reported and left out.
    /// - Parameters:
    ///   - segmentBytesMax: after this many bytes a new segment file is begun.
    ///   - aheadBytes: by how much a segment grows beyond a small record for which it must grow; 0: not at all.
    ///   - report: told, in one line, what was found damaged.
    ///   - fatal: called once, on the spool's thread, when durability was lost; must end the process.
    /// - Throws: `unavailable` when the directory or a file in it cannot be used, `corrupt` when the disk gives no bytes.
    public convenience init(
        folder: String, segmentBytesMax: Int = 64 << 20, aheadBytes: Int = 256 << 10, report: @escaping @Sendable (String) -> Void,
        fatal: @escaping @Sendable (AccrueError) -> Void
    ) throws(AccrueError) {
        try self.init(folder: folder, segmentBytesMax: segmentBytesMax, aheadBytes: aheadBytes, synchronise: { fdatasync($0) }, report: report, fatal: fatal)
    }

    /// - Parameter synchronise: makes a file durable as fdatasync does.
    init(
        folder: String, segmentBytesMax: Int, aheadBytes: Int, synchronise: @escaping SpoolSegment.Synchronise, report: @escaping @Sendable (String) -> Void,
        fatal: @escaping @Sendable (AccrueError) -> Void
    ) throws(AccrueError) {
        self.folder = folder
        self.segmentBytesMax = segmentBytesMax
        self.aheadBytes = aheadBytes
        self.synchronise = synchronise
        self.fatal = fatal
        self.report = report
        do { try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700]) } catch {
            throw AccrueError(.unavailable, while: "opening spool \(folder)", error.reason, hint: "choose a home that can be written")
        }
        // A file that may not grow is an error to answer, not the end of the process.
        signal(SIGXFSZ, SIG_IGN)
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
    /// - Parameter room: where its bytes were laid down.
    public func append(_ chunk: LogEntry.Chunk, incarnation: String, bytes: Data, room: SpoolRoom? = nil, completion: @escaping Completion) {
        let record = SpoolRecord(incarnation: incarnation, chunk: chunk, checksum: PayloadChecksum(of: bytes))
        let append = Append(record: record, payload: bytes, room: room, completion: completion)
        let isStopped = shared.withLock { shared in
            if !shared.isStopped { shared.waiting.append(append) }
            return shared.isStopped
        }
        if isStopped { completion(.failure(Self.stopped)) } else { wake.signal() }
    }

    /// Has something done, on the spool's thread, whenever the completions of a group have been called: what they gathered can go together.
    func whenSettled(_ work: @escaping @Sendable () -> Void) { shared.withLock { $0.settled = work } }

    /// Does a little work on the spool's thread before it writes its next group: what the work appends goes into that group, with no other thread between.
    /// - Returns: false when the spool has stopped, and the work is not done.
    public func prepare(_ work: @escaping @Sendable () -> Void) -> Bool {
        let isStopped = shared.withLock { shared in
            if !shared.isStopped { shared.preparations.append(work) }
            return shared.isStopped
        }
        if !isStopped { wake.signal() }
        return !isStopped
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

    /// Reads a chunk and compares it with what was pushed.
    /// - Throws: `notFound` when the spool does not hold it, `corrupt` when its bytes are not those that were pushed.
    public func check(_ key: SpoolKey) throws(AccrueError) {
        let place = try place(of: key)
        guard place.checksum.matches(try bytes(of: key)) else {
            throw AccrueError(
                .corrupt, while: "reading chunk \(key.identity.short)", "its bytes in \(place.segment.path) are not those that were pushed", hint: "check the disk")
        }
    }

    /// Bytes of a chunk.
    public func byteCount(of key: SpoolKey) throws(AccrueError) -> Int { try place(of: key).byteCount }

    public func holds(_ key: SpoolKey) -> Bool { shared.withLock { $0.entries[key] != nil } }

    /// All chunks, by incarnation and identity.
    public func items() -> [Item] {
        shared.withLock { $0.entries.values.map(\.item) }.sorted { ($0.incarnation, $0.chunk.identity) < ($1.incarnation, $1.chunk.identity) }
    }

    /// Keeps a chunk from being dropped while its announcement is under way.
    public func pin(_ key: SpoolKey) {
        shared.withLock { shared in
            shared.pins[key, default: 0] += 1
            let stamp = shared.nextStamp()
            shared.entries[key]?.item.stamp = stamp
        }
    }

    public func unpin(_ key: SpoolKey) {
        shared.withLock { shared in
            guard let count = shared.pins[key] else { return }
            shared.pins[key] = count > 1 ? count - 1 : nil
            let stamp = shared.nextStamp()
            shared.entries[key]?.item.stamp = stamp
        }
    }

    /// Notes that the coordinator's log has the chunk.
    public func markKnown(_ key: SpoolKey) { shared.withLock { $0.entries[key]?.isKnown = true } }

    /// Gives up a chunk's bytes; a segment that holds no other is deleted. Pinned chunks stay.
    /// - Parameters:
    ///   - onlyUnknown: leave it if the coordinator's log has it.
    ///   - listed: the chunk as `items` gave it when the decision was asked for: leave it if it was used since, for then the decision is old.
    /// - Returns: whether the chunk was there and is gone.
    @discardableResult
    public func drop(_ key: SpoolKey, onlyUnknown: Bool = false, asListed listed: Item? = nil) -> Bool {
        let (dropped, empty) = shared.withLock { shared -> (Bool, SpoolSegment?) in
            guard let entry = shared.entries[key], shared.pins[key] == nil, !(onlyUnknown && entry.isKnown), listed.map({ $0.stamp == entry.item.stamp }) ?? true
            else { return (false, nil) }
            shared.entries[key] = nil
            let empty = Self.release(entry.segment.number, &shared)
            if empty == nil, !shared.isStopped {
                shared.waiting.append(Append(record: SpoolRecord(dropping: entry.item), payload: Data(), completion: nil))
                for room in shared.rooms { room.note(dropped: key) }
            }
            return (true, empty)
        }
        empty?.delete()
        if dropped { wake.signal() }
        return dropped
    }

    /// Holds a chunk no longer whose bytes turned out to be damaged. They stay where they are, for a person to look at.
    public func disown(_ key: SpoolKey) { shared.withLock { _ = $0.entries.removeValue(forKey: key) } }

    /// Ends the spool's thread when everything appended before is durable.
    public func stop() {
        shared.withLock { $0.isStopped = true }
        wake.signal()
    }

    static let stopped = AccrueError(.unavailable, while: "storing a chunk", "the worker is stopping", hint: "send it again", retryAfterMs: 500)

    private func place(of key: SpoolKey) throws(AccrueError) -> Entry {
        guard let entry = shared.withLock({ $0.entries[key] }) else {
            throw AccrueError(.notFound, while: "reading chunk \(key.identity.short)", "this worker does not hold it", hint: "ask a worker that does")
        }
        return entry
    }

    static func release(_ number: Int, _ shared: inout Shared) -> SpoolSegment? {
        let left = (shared.live[number] ?? 1) - 1
        shared.live[number] = left
        guard left <= 0, shared.writing != number else { return nil }
        shared.live[number] = nil
        return shared.segments.removeValue(forKey: number)
    }
}
