import AccrueCore
import Foundation
import Glibc

/// One file of a spool. Its descriptor stays open as long as anybody reads from it, also after the file was deleted.
final class SpoolSegment: Sendable {
    let number: Int
    let path: String
    private let file: Int32

    private init(number: Int, path: String, file: Int32) {
        self.number = number
        self.path = path
        self.file = file
    }

    deinit { close(file) }

    static func name(_ number: Int) -> String {
        let digits = String(number, radix: 16)
        return String(repeating: "0", count: max(0, 12 - digits.count)) + digits + ".spool"
    }

    /// Nil for a name that no segment is given.
    static func number(of name: String) -> Int? {
        guard name.hasSuffix(".spool"), let number = Int(name.dropLast(6), radix: 16), number > 0, Self.name(number) == name else { return nil }
        return number
    }

    /// - Throws: `unavailable` when the file cannot be opened.
    convenience init(opening number: Int, in folder: String) throws(AccrueError) {
        let path = "\(folder)/\(Self.name(number))"
        let file = open(path, O_RDWR | O_CLOEXEC)
        guard file >= 0 else { throw Self.error("opening spool segment \(path)") }
        self.init(number: number, path: path, file: file)
    }

    /// A new, empty one; nil when the disk has no room for its name.
    /// - Throws: `unavailable` when the file cannot be made.
    convenience init?(making number: Int, in folder: String) throws(AccrueError) {
        let path = "\(folder)/\(Self.name(number))"
        let file = open(path, O_RDWR | O_CLOEXEC | O_CREAT | O_EXCL, 0o600)
        guard file >= 0 else {
            if Self.isFull(errno) { return nil }
            throw Self.error("making spool segment \(path)")
        }
        self.init(number: number, path: path, file: file)
    }

    /// Makes what a descriptor names durable; 0 when it is.
    typealias Synchronise = @Sendable (Int32) -> Int32

    /// Whether an error means that there is no room, and the disk is well otherwise.
    private static func isFull(_ number: Int32) -> Bool { [ENOSPC, EDQUOT, EFBIG].contains(number) }

    /// - Throws: `unavailable` when the disk does not say.
    func byteCount() throws(AccrueError) -> Int {
        var status = stat()
        guard fstat(file, &status) == 0 else { throw Self.error("asking for the size of \(path)") }
        return Int(status.st_size)
    }

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

    /// Writes parts one behind the other.
    /// - Returns: false when there is no room; what was written of it stays.
    /// - Throws: `unavailable` when the disk fails.
    func write(_ parts: [Data], at offset: Int) throws(AccrueError) -> Bool {
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

    /// - Throws: `unavailable`; what the disk holds is unknown then.
    func synchronise(_ synchronise: Synchronise) throws(AccrueError) {
        guard synchronise(file) == 0 else { throw Self.error("making \(path) durable") }
    }

    func truncate(to count: Int) throws(AccrueError) {
        guard ftruncate(file, off_t(count)) == 0 else { throw Self.error("cutting \(path) to \(count) bytes") }
    }

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
    }

    /// Reads every record and checks it. Damage is stepped over: the next record is looked for at every multiple of 64 bytes. A record that claims
    /// more than there is ends the reading: what follows its head is its payload, whatever that looks like.
    func scan() throws(AccrueError) -> Scan {
        var result = Scan(byteCount: try byteCount())
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
                result.damaged.append((start..<offset, "no readable record"))
                damageStart = nil
            }
            let end = found.offset + SpoolRecord.aligned(found.payloadBytes)
            if ContentHash(of: try read(found.offset, found.payloadBytes)) == found.record.checksum {
                result.records.append(found)
                result.end = end
            } else {
                // The header is whole, so the record's extent is known; a torn tail shows itself by having nothing readable after it.
                damageStart = offset
            }
            offset = end
        }
        return result
    }

    private func record(at offset: Int) throws(AccrueError) -> Found? {
        let prefix = try read(offset, SpoolRecord.prefixBytes)
        guard let lengths = SpoolRecord.lengths(prefix) else { return nil }
        let start = offset + SpoolRecord.aligned(SpoolRecord.prefixBytes + lengths.description)
        guard let record = SpoolRecord(prefix: prefix, description: try read(offset + SpoolRecord.prefixBytes, lengths.description)) else { return nil }
        return Found(record: record, offset: start, payloadBytes: lengths.payload)
    }
}
