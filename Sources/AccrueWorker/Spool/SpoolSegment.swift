import AccrueCore
import CLinux
import Foundation
import Glibc
import Synchronization

/// One file of a spool. Its descriptor stays open as long as anybody reads from it, also after the file was deleted.
///
/// Behind its last record there may be zeros: room that small records take without changing the file's length, which makes their sync cheaper.
final class SpoolSegment: Sendable {
    /// What a segment's file is called: its number and its salt, `00000000002a-0123456789abcdef.spool`. Earlier releases gave none a salt.
    struct Name: Equatable, Comparable, Sendable {
        var number: Int
        var salt: UInt64?

        init(number: Int, salt: UInt64?) { (self.number, self.salt) = (number, salt) }

        /// Nil for a name that no segment is given.
        init?(file: String) {
            guard file.hasSuffix(".spool") else { return nil }
            let parts = file.dropLast(6).split(separator: "-", omittingEmptySubsequences: false)
            guard (1...2).contains(parts.count), let number = Int(parts[0], radix: 16), number > 0 else { return nil }
            self.init(number: number, salt: nil)
            if parts.count == 2 {
                guard let salt = UInt64(parts[1], radix: 16) else { return nil }
                self.salt = salt
            }
            guard self.file == file else { return nil }
        }

        var file: String { Self.digits(number, 12) + (salt.map { "-" + Self.digits($0, 16) } ?? "") + ".spool" }

        static func < (left: Name, right: Name) -> Bool { (left.number, left.salt ?? 0) < (right.number, right.salt ?? 0) }

        private static func digits(_ number: some BinaryInteger, _ count: Int) -> String {
            let digits = String(number, radix: 16)
            return String(repeating: "0", count: max(0, count - digits.count)) + digits
        }
    }

    let name: Name
    let path: String
    private let file: Int32
    private let extent: Mutex<Extent>

    /// Where records end, and where the file does: between lie zeros.
    private struct Extent {
        var end: Int
        var byteCount: Int
    }

    private init(_ name: Name, path: String, file: Int32, byteCount: Int) {
        self.name = name
        self.path = path
        self.file = file
        extent = Mutex(Extent(end: byteCount, byteCount: byteCount))
    }

    deinit { close(file) }

    var number: Int { name.number }

    /// - Throws: `unavailable` when the file cannot be opened.
    convenience init(opening name: Name, in folder: String) throws(AccrueError) {
        let path = "\(folder)/\(name.file)"
        let file = open(path, O_RDWR | O_CLOEXEC)
        guard file >= 0 else { throw Self.error("opening spool segment \(path)") }
        var status = stat()
        guard fstat(file, &status) == 0 else {
            close(file)
            throw Self.error("asking for the size of \(path)")
        }
        self.init(name, path: path, file: file, byteCount: Int(status.st_size))
    }

    /// A new, empty one; nil when the disk has no room for its name.
    /// - Throws: `unavailable` when the file cannot be made.
    convenience init?(making number: Int, in folder: String) throws(AccrueError) {
        let name = Name(number: number, salt: .random(in: 0 ... .max))
        let path = "\(folder)/\(name.file)"
        let file = open(path, O_RDWR | O_CLOEXEC | O_CREAT | O_EXCL, 0o600)
        guard file >= 0 else {
            if Self.isFull(errno) { return nil }
            throw Self.error("making spool segment \(path)")
        }
        self.init(name, path: path, file: file, byteCount: 0)
    }

    /// Makes what a descriptor names durable; 0 when it is.
    typealias Synchronise = @Sendable (Int32) -> Int32

    /// Whether an error means that there is no room, and the disk is well otherwise.
    private static func isFull(_ number: Int32) -> Bool { [ENOSPC, EDQUOT, EFBIG].contains(number) }

    /// Where the next record begins.
    var end: Int { extent.withLock { $0.end } }
    var byteCount: Int { extent.withLock { $0.byteCount } }

    /// Bytes of a range; fewer at the end of the file.
    /// - Throws: `corrupt` when the disk does not give them.
    func read(_ offset: Int, _ count: Int) throws(AccrueError) -> Data {
        var bytes = Data(count: count)
        var done = 0
        while done < count {
            let here = done
            let got = bytes.withUnsafeMutableBytes { pread(file, $0.baseAddress.map { $0 + here }, count - here, off_t(offset + here)) }
            if got < 0, errno == EINTR { continue }
            guard got >= 0 else {
                throw AccrueError(.corrupt, while: "reading \(count) bytes at \(offset) of \(path)", String(cString: strerror(errno)), hint: "check the disk")
            }
            if got == 0 { break }
            done += got
        }
        return done == count ? bytes : bytes.prefix(done)
    }

    /// Puts a record behind the others.
    /// - Parameters:
    ///   - parts: its bytes, a multiple of 64.
    ///   - ahead: when the file must grow for it, how many zeros it grows by beyond, for records to come; fewer when there is no room.
    /// - Returns: where the record begins; nil when there is no room, and then nothing is left of it.
    /// - Throws: `unavailable` when the disk fails.
    func append(_ parts: [Data], ahead: Int) throws(AccrueError) -> Int? {
        let start = end, stop = start + parts.reduce(0) { $0 + $1.count }
        guard try write(parts, at: start) else {
            try truncate(to: start)
            return nil
        }
        let grows = extent.withLock { extent in
            extent.end = stop
            defer { extent.byteCount = max(stop, extent.byteCount) }
            return stop > extent.byteCount
        }
        guard grows, ahead > 0 else { return start }
        guard try write([Data(count: ahead)], at: stop) else {
            try truncate(to: stop)
            return start
        }
        extent.withLock { $0.byteCount = stop + ahead }
        return start
    }

    /// Writes parts one behind the other.
    /// - Returns: false when there is no room; what was written of it stays.
    /// - Throws: `unavailable` when the disk fails.
    private func write(_ parts: [Data], at offset: Int) throws(AccrueError) -> Bool {
        let count = parts.reduce(0) { $0 + $1.count }
        var done = 0
        while done < count {
            let put = Self.put(parts, skipping: done, into: file, at: offset + done)
            if put < 0, errno == EINTR { continue }
            guard put > 0 else {
                if put == 0 || Self.isFull(errno) { return false }
                throw Self.error("writing \(count) bytes to \(path)")
            }
            done += put
        }
        return true
    }

    /// One `pwritev` of what is behind the bytes that are skipped.
    private static func put(_ parts: [Data], skipping skipped: Int, into file: Int32, at offset: Int, _ vectors: [iovec] = []) -> Int {
        guard let part = parts.first else { return pwritev(file, vectors, Int32(vectors.count), off_t(offset)) }
        let rest = Array(parts.dropFirst())
        guard skipped < part.count else { return put(rest, skipping: skipped - part.count, into: file, at: offset, vectors) }
        return part.withUnsafeBytes { bytes in
            let vector = iovec(iov_base: UnsafeMutableRawPointer(mutating: bytes.baseAddress?.advanced(by: skipped)), iov_len: bytes.count - skipped)
            return put(rest, skipping: 0, into: file, at: offset, vectors + [vector])
        }
    }

    /// Writes a head before a payload that lies there.
    /// - Returns: false when there is no room.
    /// - Throws: `unavailable` when the disk fails.
    func write(head: Data, at offset: Int) throws(AccrueError) -> Bool { try write([head], at: offset) }

    /// Has the disk begin to write, so that making it durable takes less time later. Nothing depends on it.
    func beginSynchronising(from offset: Int) { clinux_begin_writing(file, off_t(offset), off_t(end - offset)) }

    /// - Throws: `unavailable`; what the disk holds is unknown then.
    func synchronise(_ synchronise: Synchronise) throws(AccrueError) {
        guard synchronise(file) == 0 else { throw Self.error("making \(path) durable") }
    }

    /// Cuts the file behind its records, which end here.
    func truncate(to count: Int) throws(AccrueError) {
        guard ftruncate(file, off_t(count)) == 0 else { throw Self.error("cutting \(path) to \(count) bytes") }
        extent.withLock { $0 = Extent(end: count, byteCount: count) }
    }

    /// Says where records end in a file that is zeros from there on.
    func goOn(at end: Int) { extent.withLock { $0.end = end } }

    func delete() { unlink(path) }

    static func error(_ operation: String) -> AccrueError {
        AccrueError(.unavailable, while: operation, String(cString: strerror(errno)), hint: "check free space, permissions and health of the disk", retryAfterMs: 1_000)
    }
}

extension SpoolSegment {
    struct Found {
        var record: SpoolRecord
        /// Of the payload.
        var offset: Int
        var payloadBytes: Int
    }

    struct Scan {
        var records: [Found] = []
        /// Byte ranges that hold no readable record, each before a readable one.
        var damaged: [(range: Range<Int>, problem: String)] = []
        /// Where the last readable record ends.
        var end = 0
        var byteCount = 0
        /// Nothing but zeros from `end` on: room for records to come.
        var isZeroBehind = true
    }

    /// Reads every record and checks it. Damage is stepped over: the next record is looked for at every multiple of 64 bytes. A record that claims
    /// more than there is ends the reading: what follows its head is its payload, whatever that looks like.
    func scan() throws(AccrueError) -> Scan {
        var result = Scan(byteCount: byteCount)
        var offset = 0
        var damageStart: Int?
        while offset + SpoolRecord.prefixBytes <= result.byteCount {
            guard let found = try record(at: offset) else {
                damageStart = damageStart ?? offset
                offset += SpoolRecord.alignment
                continue
            }
            if found.offset + found.payloadBytes > result.byteCount { break }
            if let start = damageStart {
                result.damaged.append((start..<offset, "no readable record, for they are damaged or of a push that a crash cut short"))
                damageStart = nil
            }
            let end = found.offset + SpoolRecord.aligned(found.payloadBytes)
            if found.record.checksum.matches(try read(found.offset, found.payloadBytes)) {
                result.records.append(found)
                result.end = end
            } else {
                // The header is whole, so the record's extent is known; a torn tail shows itself by having nothing readable after it.
                damageStart = offset
            }
            offset = end
        }
        result.isZeroBehind = try isZero(from: result.end, to: result.byteCount)
        return result
    }

    private func isZero(from start: Int, to end: Int) throws(AccrueError) -> Bool {
        for offset in stride(from: start, to: end, by: 1 << 20) {
            guard try read(offset, min(1 << 20, end - offset)).allSatisfy({ $0 == 0 }) else { return false }
        }
        return true
    }

    private func record(at offset: Int) throws(AccrueError) -> Found? {
        let prefix = try read(offset, SpoolRecord.prefixBytes)
        guard let lengths = SpoolRecord.lengths(prefix) else { return nil }
        let start = offset + SpoolRecord.aligned(SpoolRecord.prefixBytes + lengths.description)
        guard let record = SpoolRecord(prefix: prefix, description: try read(offset + SpoolRecord.prefixBytes, lengths.description), salt: name.salt) else { return nil }
        return Found(record: record, offset: start, payloadBytes: lengths.payload)
    }
}
