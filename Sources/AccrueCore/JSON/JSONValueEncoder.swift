/// Encodes Codable types straight into a `JSONValue`: a `JSONValue` inside them is taken as it is, whatever its size.
///
/// Gives what writing the text and parsing it again would: a Float64 that is whole becomes an integer, a Float32 the shortest decimal that names it.
final class JSONValueEncoder: Encoder {
    /// What was encoded so far. Containers stay open as long as anybody holds one, so they are put together only in the end.
    private enum Content {
        case empty
        case value(JSONValue)
        case object([String: JSONValueEncoder.Part])
        case array([JSONValueEncoder.Part])
    }
    fileprivate enum Part {
        case value(JSONValue)
        case open(JSONValueEncoder)

        var whole: JSONValue {
            switch self {
            case .value(let value): value
            case .open(let encoder): encoder.value
            }
        }
    }

    private var content = Content.empty
    private let parent: JSONValueEncoder?
    private let key: (any CodingKey)?

    fileprivate init(in parent: JSONValueEncoder?, at key: (any CodingKey)?) {
        self.parent = parent
        self.key = key
    }

    convenience init() { self.init(in: nil, at: nil) }

    var userInfo: [CodingUserInfoKey: Any] { [:] }
    var codingPath: [any CodingKey] { (parent?.codingPath ?? []) + (key.map { [$0] } ?? []) }

    /// What was encoded; an empty object when nothing was.
    var value: JSONValue {
        switch content {
        case .empty: .object([:])
        case .value(let value): value
        case .object(let fields): .object(fields.mapValues(\.whole))
        case .array(let parts): .array(parts.map(\.whole))
        }
    }

    func container<Key: CodingKey>(keyedBy _: Key.Type) -> KeyedEncodingContainer<Key> {
        if case .empty = content { content = .object([:]) }
        return KeyedEncodingContainer(Keyed(encoder: self))
    }

    func unkeyedContainer() -> any UnkeyedEncodingContainer {
        if case .empty = content { content = .array([]) }
        return Unkeyed(encoder: self)
    }

    func singleValueContainer() -> any SingleValueEncodingContainer { self }

    func put(_ value: JSONValue) { content = .value(value) }

    fileprivate func put(_ part: Part, for key: String) {
        guard case .object(var fields) = content else { return }
        content = .empty
        fields[key] = part
        content = .object(fields)
    }

    fileprivate func append(_ part: Part) {
        guard case .array(var parts) = content else { return }
        content = .empty
        parts.append(part)
        content = .array(parts)
    }

    fileprivate var count: Int { if case .array(let parts) = content { parts.count } else { 0 } }

    fileprivate func encoded(_ value: some Encodable, at key: any CodingKey) throws -> JSONValue {
        if let value = value as? JSONValue { return value }
        let inner = JSONValueEncoder(in: self, at: key)
        try value.encode(to: inner)
        return inner.value
    }

    fileprivate func number(_ value: Double, at key: (any CodingKey)? = nil) throws -> JSONValue {
        guard value.isFinite else {
            let path = codingPath + (key.map { [$0] } ?? [])
            throw EncodingError.invalidValue(value, .init(codingPath: path, debugDescription: "\(value) cannot be written as JSON"))
        }
        // As the parser reads it: above this not every whole number is one of its own.
        if value.magnitude < 0x1p53, let whole = Int(exactly: value), value != 0 || value.sign == .plus { return .integer(whole) }
        return .number(value)
    }

    fileprivate func number(_ value: Float, at key: (any CodingKey)? = nil) throws -> JSONValue { try number(Double(value.description) ?? Double(value), at: key) }

    fileprivate static func whole(_ value: some BinaryInteger) -> JSONValue { Int(exactly: value).map(JSONValue.integer) ?? .number(Double(value)) }
}

extension JSONValueEncoder: SingleValueEncodingContainer {
    func encodeNil() { put(.null) }
    func encode(_ value: Bool) { put(.bool(value)) }
    func encode(_ value: String) { put(.string(value)) }
    func encode(_ value: Double) throws { put(try number(value)) }
    func encode(_ value: Float) throws { put(try number(value)) }
    func encode(_ value: Int) { put(.integer(value)) }
    func encode(_ value: Int8) { put(Self.whole(value)) }
    func encode(_ value: Int16) { put(Self.whole(value)) }
    func encode(_ value: Int32) { put(Self.whole(value)) }
    func encode(_ value: Int64) { put(Self.whole(value)) }
    func encode(_ value: UInt) { put(Self.whole(value)) }
    func encode(_ value: UInt8) { put(Self.whole(value)) }
    func encode(_ value: UInt16) { put(Self.whole(value)) }
    func encode(_ value: UInt32) { put(Self.whole(value)) }
    func encode(_ value: UInt64) { put(Self.whole(value)) }
    func encode(_ value: some Encodable) throws { try value.encode(to: self) }
}

private struct Keyed<Key: CodingKey>: KeyedEncodingContainerProtocol {
    let encoder: JSONValueEncoder
    var codingPath: [any CodingKey] { encoder.codingPath }

    func encodeNil(forKey key: Key) { put(.null, key) }
    func encode(_ value: Bool, forKey key: Key) { put(.bool(value), key) }
    func encode(_ value: String, forKey key: Key) { put(.string(value), key) }
    func encode(_ value: Double, forKey key: Key) throws { put(try encoder.number(value, at: key), key) }
    func encode(_ value: Float, forKey key: Key) throws { put(try encoder.number(value, at: key), key) }
    func encode(_ value: Int, forKey key: Key) { put(.integer(value), key) }
    func encode(_ value: Int8, forKey key: Key) { put(JSONValueEncoder.whole(value), key) }
    func encode(_ value: Int16, forKey key: Key) { put(JSONValueEncoder.whole(value), key) }
    func encode(_ value: Int32, forKey key: Key) { put(JSONValueEncoder.whole(value), key) }
    func encode(_ value: Int64, forKey key: Key) { put(JSONValueEncoder.whole(value), key) }
    func encode(_ value: UInt, forKey key: Key) { put(JSONValueEncoder.whole(value), key) }
    func encode(_ value: UInt8, forKey key: Key) { put(JSONValueEncoder.whole(value), key) }
    func encode(_ value: UInt16, forKey key: Key) { put(JSONValueEncoder.whole(value), key) }
    func encode(_ value: UInt32, forKey key: Key) { put(JSONValueEncoder.whole(value), key) }
    func encode(_ value: UInt64, forKey key: Key) { put(JSONValueEncoder.whole(value), key) }
    func encode(_ value: some Encodable, forKey key: Key) throws { put(try encoder.encoded(value, at: key), key) }

    func nestedContainer<Nested: CodingKey>(keyedBy type: Nested.Type, forKey key: Key) -> KeyedEncodingContainer<Nested> { inner(key).container(keyedBy: type) }
    func nestedUnkeyedContainer(forKey key: Key) -> any UnkeyedEncodingContainer { inner(key).unkeyedContainer() }
    func superEncoder() -> any Encoder {
        let inner = JSONValueEncoder(in: encoder, at: nil)
        encoder.put(.open(inner), for: "super")
        return inner
    }
    func superEncoder(forKey key: Key) -> any Encoder { inner(key) }

    private func put(_ value: JSONValue, _ key: Key) { encoder.put(.value(value), for: key.stringValue) }

    private func inner(_ key: Key) -> JSONValueEncoder {
        let inner = JSONValueEncoder(in: encoder, at: key)
        encoder.put(.open(inner), for: key.stringValue)
        return inner
    }
}

private struct Unkeyed: UnkeyedEncodingContainer {
    let encoder: JSONValueEncoder
    var codingPath: [any CodingKey] { encoder.codingPath }
    var count: Int { encoder.count }

    func encodeNil() { encoder.append(.value(.null)) }
    func encode(_ value: some Encodable) throws { encoder.append(.value(try encoder.encoded(value, at: JSONPathKey(intValue: count)))) }
    func nestedContainer<Nested: CodingKey>(keyedBy type: Nested.Type) -> KeyedEncodingContainer<Nested> { inner().container(keyedBy: type) }
    func nestedUnkeyedContainer() -> any UnkeyedEncodingContainer { inner().unkeyedContainer() }
    func superEncoder() -> any Encoder { inner() }

    private func inner() -> JSONValueEncoder {
        let inner = JSONValueEncoder(in: encoder, at: JSONPathKey(intValue: count))
        encoder.append(.open(inner))
        return inner
    }
}
