import AccrueCore
import Foundation

/// Tells whether the disk gives the bytes of a payload that it was given.
///
/// Damage by accident is all that it must find, and it is made anew for every chunk, so it is XXH64, at many times the speed of SHA-256. Who holds the
/// content to its identity hashes that. Spools of earlier releases say SHA-256.
enum PayloadChecksum: Codable, Equatable {
    case xxh64(UInt64)
    case sha256(ContentHash)

    init(of bytes: Data) { self = .xxh64(XXH64.hash(bytes)) }

    func matches(_ bytes: Data) -> Bool {
        switch self {
        case .xxh64(let value): XXH64.hash(bytes) == value
        case .sha256(let hash): ContentHash(of: bytes) == hash
        }
    }

    /// Hexadecimal digits: 16 or 64.
    var text: String {
        switch self {
        case .xxh64(let value):
            let digits = String(value, radix: 16)
            return String(repeating: "0", count: 16 - digits.count) + digits
        case .sha256(let hash): return hash.hex
        }
    }

    init?(text: String) {
        if text.utf8.count == 16, let value = UInt64(text, radix: 16) {
            self = .xxh64(value)
        } else if let hash = ContentHash(hex: text) {
            self = .sha256(hash)
        } else {
            return nil
        }
    }

    init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        guard let value = PayloadChecksum(text: try container.decode(String.self)) else {
            throw DecodingError.dataCorruptedError(in: container, debugDescription: "a checksum is 16 or 64 hexadecimal digits")
        }
        self = value
    }

    func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(text)
    }
}
