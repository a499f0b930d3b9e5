import CSHA256
import Crypto
import Foundation

extension Rows {
    /// The identity of this content: SHA-256 over each tensor in schema order: name, dtype, shape, data.
    public var identity: ContentHash {
        var hash = SHA256()
        for part in identified { hash.update(data: part) }
        return ContentHash(hash.finalize())
    }

    /// What an identity is the hash of, part by part.
    private var identified: [Data] {
        var parts: [Data] = []
        for spec in schema.tensors {
            guard let tensor = tensors[spec.name] else { continue }
            parts.append(Data("\(spec.name)\u{0}\(tensor.dtype.rawValue)\u{0}\(tensor.shape.map(String.init).joined(separator: ","))\u{0}".utf8))
            parts.append(tensor.data)
        }
        return parts
    }

    /// The identities of several contents, in order. Where the processor has wide vectors but no instructions for SHA-256, eight take little longer than one.
    public static func identities(of contents: [Rows]) -> [ContentHash] {
        guard contents.count > 1, hashesTogether else { return contents.map(\.identity) }
        return stride(from: 0, to: contents.count, by: togetherMax).flatMap { start in
            together(contents[start..<min(start + togetherMax, contents.count)].map(\.identified))
        }
    }

    /// Whether `identities` gains anything by having several.
    public static var hashesTogether: Bool { csha256_is_fast() != 0 }

    private static let togetherMax = 2 * Int(CSHA256_LANES)

    /// The hashes of messages, each given in parts.
    private static func together(_ messages: [[Data]]) -> [ContentHash] {
        withAddresses(of: messages.flatMap { $0 }[...]) { addresses in
            withUnsafeTemporaryAllocation(of: UnsafeRawPointer.self, capacity: addresses.count) { parts in
                withUnsafeTemporaryAllocation(of: Int64.self, capacity: addresses.count) { bytes in
                    guard let firstPart = parts.baseAddress, let firstBytes = bytes.baseAddress else { return [] }
                    for (index, part) in addresses.enumerated() {
                        // Of no bytes any address will do.
                        parts.initializeElement(at: index, to: part.baseAddress ?? UnsafeRawPointer(firstBytes))
                        bytes.initializeElement(at: index, to: Int64(part.count))
                    }
                    var first = 0
                    let described = messages.map { message in
                        defer { first += message.count }
                        return csha256_message(parts: firstPart + first, bytes: firstBytes + first, count: Int32(message.count))
                    }
                    return withUnsafeTemporaryAllocation(of: UInt8.self, capacity: 32 * messages.count) { digests in
                        guard let firstDigest = digests.baseAddress else { return [] }
                        csha256_hash(described, Int32(described.count), firstDigest)
                        return messages.indices.map { ContentHash(digest: UnsafeRawBufferPointer(start: firstDigest + 32 * $0, count: 32)) }
                    }
                }
            }
        }
    }

    private static func withAddresses<Value>(
        of parts: ArraySlice<Data>, _ found: [UnsafeRawBufferPointer] = [], _ body: ([UnsafeRawBufferPointer]) -> Value
    ) -> Value {
        guard let part = parts.first else { return body(found) }
        return part.withUnsafeBytes { withAddresses(of: parts.dropFirst(), found + [$0], body) }
    }
}
