public import Crypto
public import Foundation

/// A SHA-256 digest: the name of a blob, and of a chunk's content.
public struct ContentHash: Hashable, Codable, Sendable, Comparable, CustomStringConvertible {
    // The digest's bytes, the first the most significant, so that words compare as digits do.
    private let first, second, third, fourth: UInt64

    private init(word: (Int) -> UInt64) { (first, second, third, fourth) = (word(0), word(1), word(2), word(3)) }

    public init(of data: Data) {
        self.init(SHA256.hash(data: data))
    }

    public init(_ digest: SHA256.Digest) {
        self = digest.withUnsafeBytes { ContentHash(digest: $0) }
    }

    /// - Parameter digest: 32 bytes.
    init(digest: UnsafeRawBufferPointer) {
        self.init { UInt64(bigEndian: digest.loadUnaligned(fromByteOffset: 8 * $0, as: UInt64.self)) }
    }

    /// Nil unless `hex` is 64 lower-case hexadecimal digits.
    public init?(hex: String) {
        var text = hex
        let words = text.withUTF8 { digits -> ContentHash? in
            guard digits.count == 64 else { return nil }
            var isHex = true
            let hash = ContentHash { word in
                digits[16 * word..<16 * word + 16].reduce(0) { value, digit in
                    switch digit {
                    case 48...57: return value << 4 | UInt64(digit - 48)
                    case 97...102: return value << 4 | UInt64(digit - 87)
                    default:
                        isHex = false
                        return 0
                    }
                }
            }
            return isHex ? hash : nil
        }
        guard let words else { return nil }
        self = words
    }

    /// 64 lower-case hexadecimal digits.
    public var hex: String {
        String(unsafeUninitializedCapacity: 64) { digits in
            writeDigits(to: digits)
            return 64
        }
    }

    /// The same digits as ASCII.
    func appendDigits(to bytes: inout [UInt8]) {
        withUnsafeTemporaryAllocation(of: UInt8.self, capacity: 64) { digits in
            writeDigits(to: digits)
            bytes.append(contentsOf: digits)
        }
    }

    private func writeDigits(to digits: UnsafeMutableBufferPointer<UInt8>) {
        var place = 0
        for value in [first, second, third, fourth] {
            for shift in stride(from: 60, through: 0, by: -4) {
                let digit = UInt8(truncatingIfNeeded: value >> UInt64(shift)) & 15
                digits[place] = digit < 10 ? 48 + digit : 87 + digit
                place += 1
            }
        }
    }

    public init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        guard let value = ContentHash(hex: try container.decode(String.self)) else {
            throw DecodingError.dataCorruptedError(in: container, debugDescription: "a hash is 64 lower-case hexadecimal digits")
        }
        self = value
    }

    public func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(hex)
    }

    /// The first 12 digits, for people.
    public var short: String { String(hex.prefix(12)) }
    public var description: String { hex }
    public static func < (left: ContentHash, right: ContentHash) -> Bool {
        (left.first, left.second, left.third, left.fourth) < (right.first, right.second, right.third, right.fourth)
    }
}
