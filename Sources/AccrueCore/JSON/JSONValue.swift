public import Foundation

/// A JSON value with a canonical text form: sorted keys, no white space, shortest decimal form of every number.
///
/// Objects whose schema lives elsewhere (a method's settings, query headers) are carried as `JSONValue`; hashing uses `canonical`.
public enum JSONValue: Equatable, Hashable, Sendable {
    case null
    case bool(Bool)
    case integer(Int)
    case number(Double)
    case string(String)
    case array([JSONValue])
    case object([String: JSONValue])

    /// - Throws: `invalidInput` when the bytes are not one JSON value.
    public init(parsing data: Data) throws(AccrueError) {
        let parsed = data.withUnsafeBytes { raw -> Result<JSONValue, JSONParser.Failure> in
            let bytes = raw.assumingMemoryBound(to: UInt8.self)
            guard (try? UTF8Span(validating: bytes.span)) != nil else { return .failure(.init(problem: "the bytes are not UTF-8")) }
            var parser = JSONParser(bytes)
            do throws(JSONParser.Failure) { return .success(try parser.parse()) } catch { return .failure(error) }
        }
        do { self = try parsed.get() } catch { throw AccrueError(.invalidInput, while: "reading JSON", "not a JSON value: \(error.problem)") }
    }

    /// Any Codable value as JSON.
    /// - Throws: `invalidInput` when the value cannot be written as JSON (a number that is not finite).
    public init(encoding value: some Encodable) throws(AccrueError) {
        let encoder = JSONValueEncoder()
        do { try value.encode(to: encoder) } catch { throw AccrueError(.invalidInput, while: "writing JSON", Self.reason(error)) }
        self = encoder.value
    }

    /// This value as a Codable type.
    /// - Throws: `invalidInput` that names the field at fault.
    public func decode<Value: Decodable>(_: Value.Type = Value.self, while operation: String) throws(AccrueError) -> Value {
        // Not in one cast: nil would be a value where an Optional is wanted.
        if let type = Value.self as? any DirectlyCoded.Type, let direct = type.init(json: self), let value = direct as? Value { return value }
        do { return try Value(from: JSONValueDecoder(self)) } catch let error as AccrueError {
            throw error
        } catch {
            throw AccrueError(.invalidInput, while: operation, Self.reason(error))
        }
    }

    public subscript(key: String) -> JSONValue? {
        if case .object(let fields) = self { fields[key] } else { nil }
    }

    public var double: Double? {
        switch self {
        case .integer(let value): Double(value)
        case .number(let value): value
        default: nil
        }
    }

    public var int: Int? { if case .integer(let value) = self { value } else { nil } }
    public var string: String? { if case .string(let value) = self { value } else { nil } }
    public var bool: Bool? { if case .bool(let value) = self { value } else { nil } }
    public var array: [JSONValue]? { if case .array(let value) = self { value } else { nil } }
    public var object: [String: JSONValue]? { if case .object(let value) = self { value } else { nil } }

    /// The canonical text: the same value always gives the same characters.
    public var canonical: String { String(decoding: canonicalBytes, as: UTF8.self) }

    /// The canonical text as UTF-8.
    public var canonicalBytes: Data {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(256)
        write(to: &bytes)
        return Data(bytes)
    }

    private func write(to bytes: inout [UInt8]) {
        switch self {
        case .null: bytes.append(contentsOf: "null".utf8)
        case .bool(let value): bytes.append(contentsOf: (value ? "true" : "false").utf8)
        case .integer(let value): bytes.append(contentsOf: String(value).utf8)
        case .number(let value): bytes.append(contentsOf: (value.isFinite ? "\(value)" : "null").utf8)
        case .string(let value): Self.write(value, to: &bytes)
        case .array(let values):
            bytes.append(UInt8(ascii: "["))
            for (index, value) in values.enumerated() {
                if index > 0 { bytes.append(UInt8(ascii: ",")) }
                value.write(to: &bytes)
            }
            bytes.append(UInt8(ascii: "]"))
        case .object(let fields):
            bytes.append(UInt8(ascii: "{"))
            for (index, field) in fields.sorted(by: { $0.key < $1.key }).enumerated() {
                if index > 0 { bytes.append(UInt8(ascii: ",")) }
                Self.write(field.key, to: &bytes)
                bytes.append(UInt8(ascii: ":"))
                field.value.write(to: &bytes)
            }
            bytes.append(UInt8(ascii: "}"))
        }
    }

    static func write(_ string: String, to bytes: inout [UInt8]) {
        var string = string
        bytes.append(UInt8(ascii: "\""))
        string.withUTF8 { text in
            if text.allSatisfy({ $0 >= 0x20 && $0 != UInt8(ascii: "\"") && $0 != UInt8(ascii: "\\") }) { return bytes.append(contentsOf: text) }
            for byte in text {
                switch byte {
                case UInt8(ascii: "\""): bytes.append(contentsOf: "\\\"".utf8)
                case UInt8(ascii: "\\"): bytes.append(contentsOf: "\\\\".utf8)
                case UInt8(ascii: "\n"): bytes.append(contentsOf: "\\n".utf8)
                case UInt8(ascii: "\r"): bytes.append(contentsOf: "\\r".utf8)
                case UInt8(ascii: "\t"): bytes.append(contentsOf: "\\t".utf8)
                case ..<0x20:
                    let hex = String(byte, radix: 16)
                    bytes.append(contentsOf: ("\\u" + String(repeating: "0", count: 4 - hex.count) + hex).utf8)
                default: bytes.append(byte)
                }
            }
        }
        bytes.append(UInt8(ascii: "\""))
    }

    /// What a Foundation coding error says, as one sentence with the path of the field.
    public static func reason(_ error: any Error) -> String {
        func path(_ keys: [any CodingKey]) -> String { keys.map(\.stringValue).joined(separator: ".") }
        func said(_ keys: [any CodingKey], _ problem: String) -> String { keys.isEmpty ? problem : "'\(path(keys))': \(problem)" }
        switch error {
        case DecodingError.keyNotFound(let key, let context): return "'\(path(context.codingPath + [key]))' is missing"
        case DecodingError.typeMismatch(_, let context), DecodingError.valueNotFound(_, let context), DecodingError.dataCorrupted(let context):
            return said(context.codingPath, context.debugDescription)
        case EncodingError.invalidValue(_, let context): return said(context.codingPath, context.debugDescription)
        case let error as AccrueError: return error.problem
        default: return String(describing: error)
        }
    }
}

extension JSONValue: Codable {
    public init(from decoder: any Decoder) throws {
        if let decoder = decoder as? JSONValueDecoder {
            self = decoder.value
            return
        }
        let container = try decoder.singleValueContainer()
        if container.decodeNil() {
            self = .null
        } else if let value = try? container.decode(Bool.self) {
            self = .bool(value)
        } else if let value = try? container.decode(Int.self) {
            self = .integer(value)
        } else if let value = try? container.decode(Double.self) {
            self = .number(value)
        } else if let value = try? container.decode(String.self) {
            self = .string(value)
        } else if let value = try? container.decode([JSONValue].self) {
            self = .array(value)
        } else {
            self = .object(try container.decode([String: JSONValue].self))
        }
    }

    public func encode(to encoder: any Encoder) throws {
        if let encoder = encoder as? JSONValueEncoder { return encoder.put(self) }
        var container = encoder.singleValueContainer()
        switch self {
        case .null: try container.encodeNil()
        case .bool(let value): try container.encode(value)
        case .integer(let value): try container.encode(value)
        case .number(let value): try container.encode(value)
        case .string(let value): try container.encode(value)
        case .array(let value): try container.encode(value)
        case .object(let value): try container.encode(value)
        }
    }
}

extension JSONValue: ExpressibleByStringLiteral, ExpressibleByIntegerLiteral, ExpressibleByFloatLiteral,
    ExpressibleByBooleanLiteral, ExpressibleByArrayLiteral, ExpressibleByDictionaryLiteral
{
    public init(stringLiteral value: String) { self = .string(value) }
    public init(integerLiteral value: Int) { self = .integer(value) }
    public init(floatLiteral value: Double) { self = .number(value) }
    public init(booleanLiteral value: Bool) { self = .bool(value) }
    public init(arrayLiteral elements: JSONValue...) { self = .array(elements) }
    public init(dictionaryLiteral elements: (String, JSONValue)...) {
        self = .object(Dictionary(elements) { _, last in last })
    }
}
