public import AccrueCore
import Crypto
import Foundation

/// What one record of a segment says about itself, and its bytes.
///
/// A record begins at a multiple of 64 bytes: 64 bytes of prefix (8 magic, 8 description bytes, 8 payload bytes, 8 zero, 32 checksum of the segment's
/// salt, all that and the description), the description as JSON, zeros up to the next multiple of 64, the payload, zeros again. Numbers are
/// little-endian. The description carries the payload's checksum.
///
/// Nobody outside knows a segment's salt, so no payload holds what would be taken for a record of its segment, even if a crash left it without its head.
struct SpoolRecord: Codable, Equatable {
    static let alignment = 64
    static let prefixBytes = 64
    static let descriptionBytesMax = 1 << 20
    private static let magic = Data("ACCRUESP".utf8)
    private static let checksumDigits = 32

    var incarnation: String
    var chunk: LogEntry.Chunk
    /// Of the payload.
    var checksum: PayloadChecksum
    /// True: the chunk was dropped here; there is no payload. Such a record may be lost, then the coordinator is asked again.
    var isDrop: Bool?

    var key: SpoolKey { SpoolKey(incarnation: incarnation, identity: chunk.identity) }

    static func aligned(_ count: Int) -> Int { (count + alignment - 1) / alignment * alignment }

    /// The zeros between so many bytes and what comes next.
    static func padding(after count: Int) -> Data { Data(count: aligned(count) - count) }

    /// Everything before the payload, padded.
    /// - Parameter salt: of the segment; nil in one of an earlier release.
    func head(payloadBytes: Int, salt: UInt64?) throws(AccrueError) -> Data {
        let description = if let text { text } else { [UInt8](try JSONValue(encoding: self).canonicalBytes) }
        var bytes = Data(capacity: Self.aligned(Self.prefixBytes + description.count))
        bytes.append(Self.magic)
        for number in [UInt64(description.count), UInt64(payloadBytes), 0] { withUnsafeBytes(of: number.littleEndian) { bytes.append(contentsOf: $0) } }
        let checksum = description.withUnsafeBytes { description in bytes.withUnsafeBytes { Self.checksum($0, description, salt) } }
        bytes.append(contentsOf: checksum)
        bytes.append(contentsOf: description)
        bytes.append(Self.padding(after: bytes.count))
        return bytes
    }

    /// What a prefix claims: description bytes and payload bytes, nil when it is none.
    static func lengths(_ prefix: Data) -> (description: Int, payload: Int)? {
        guard prefix.count == prefixBytes, prefix.prefix(8) == magic else { return nil }
        let (description, payload) = prefix.withUnsafeBytes {
            (UInt64(littleEndian: $0.loadUnaligned(fromByteOffset: 8, as: UInt64.self)), UInt64(littleEndian: $0.loadUnaligned(fromByteOffset: 16, as: UInt64.self)))
        }
        guard description <= UInt64(descriptionBytesMax), payload <= UInt64(Limits.chunkBytesMax) else { return nil }
        return (Int(description), Int(payload))
    }

    /// The record of a prefix and its description, nil when either is damaged.
    init?(prefix: Data, description: Data, salt: UInt64?) {
        let checksum = prefix.prefix(32).withUnsafeBytes { fixed in description.withUnsafeBytes { Self.checksum(fixed, $0, salt) } }
        guard checksum.elementsEqual(prefix.suffix(Self.checksumDigits)), let record: SpoolRecord = try? JSONValue(parsing: description).decode(while: "reading a spool record")
        else { return nil }
        self = record
    }

    init(incarnation: String, chunk: LogEntry.Chunk, checksum: PayloadChecksum) {
        self.incarnation = incarnation
        self.chunk = chunk
        self.checksum = checksum
    }

    init(dropping item: Spool.Item) {
        self.init(incarnation: item.incarnation, chunk: item.chunk, checksum: PayloadChecksum(of: Data()))
        isDrop = true
    }

    private static func checksum(_ fixed: UnsafeRawBufferPointer, _ description: UnsafeRawBufferPointer, _ salt: UInt64?) -> [UInt8] {
        var hash = SHA256()
        if let salt { withUnsafeBytes(of: salt.littleEndian) { hash.update(bufferPointer: $0) } }
        hash.update(bufferPointer: fixed)
        hash.update(bufferPointer: description)
        return Array(ContentHash(hash.finalize()).hex.utf8.prefix(checksumDigits))
    }
}

extension SpoolRecord: DirectlyCoded {
    func write(to text: inout JSONText) -> Bool {
        text.beginObject()
        text.field("checksum", checksum.text)
        guard text.field("chunk", chunk) else { return false }
        text.field("incarnation", incarnation)
        if let isDrop { text.field("isDrop", isDrop) }
        text.endObject()
        return true
    }
    init?(json: JSONValue) {
        guard case .object(let fields) = json, let incarnation = fields["incarnation"]?.string, let chunk = fields["chunk"].flatMap(LogEntry.Chunk.init(json:)),
            let checksum = fields["checksum"]?.string.flatMap(PayloadChecksum.init(text:)), let isDrop = fields.optional("isDrop", \.bool)
        else { return nil }
        self.init(incarnation: incarnation, chunk: chunk, checksum: checksum)
        self.isDrop = isDrop
    }
}

/// Names a chunk in a spool: the same rows pushed to two pipelines are two chunks.
public struct SpoolKey: Hashable, Sendable {
    public var incarnation: String
    public var identity: ContentHash
    public init(incarnation: String, identity: ContentHash) {
        self.incarnation = incarnation
        self.identity = identity
    }
}
