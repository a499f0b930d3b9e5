import CZeroMQ

/// The public half of a CURVE key pair: names who holds the other half. 40 characters of Z85, as libzmq and its tools write it.
public struct PublicKey: Hashable, Codable, Sendable, CustomStringConvertible {
    public let text: String

    /// Nil unless `text` is 32 bytes in Z85.
    public init?(_ text: String) {
        guard Self.isKey(text) else { return nil }
        self.text = text
    }

    /// The key of 32 bytes, as a handshake shows it.
    init?(bytes: some Collection<UInt8>) {
        let bytes = Array(bytes)
        var text = [CChar](repeating: 0, count: 41)
        guard bytes.count == 32, zmq_z85_encode(&text, bytes, bytes.count) != nil else { return nil }
        self.text = String(decoding: text.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    public init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        guard let key = PublicKey(try container.decode(String.self)) else {
            throw DecodingError.dataCorruptedError(in: container, debugDescription: "a key is 40 characters of Z85")
        }
        self = key
    }

    public func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(text)
    }

    public var description: String { text }

    /// Whether a text is a key, public or secret.
    static func isKey(_ text: String) -> Bool {
        var bytes = [UInt8](repeating: 0, count: 32)
        return text.utf8.count == 40 && zmq_z85_decode(&bytes, text) != nil
    }
}
