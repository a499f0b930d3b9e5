/// A type that makes and reads its JSON itself, without Codable's containers: for what every push goes through, where they are most of the work.
///
/// It says what its Codable form says, which stays the one that explains what is wrong with a value that does not fit.
public protocol DirectlyCoded: Codable {
    /// Nil: only the Codable form writes this value.
    var json: JSONValue? { get }
    /// Nil: the value is not of the usual form; the Codable form reads it, or says what is wrong.
    init?(json: JSONValue)
}

extension [String: JSONValue] {
    /// A field that may be missing; nil unless it is, or is null, or `read` takes it.
    public func optional<Field>(_ key: String, _ read: (JSONValue) -> Field?) -> Field?? {
        guard let value = self[key], value != .null else { return .some(nil) }
        return read(value).map { .some($0) }
    }

    /// The object of these fields without those that are nil.
    public init(present fields: KeyValuePairs<String, JSONValue?>) {
        self.init(minimumCapacity: fields.count)
        for (key, value) in fields { if let value { self[key] = value } }
    }
}

extension JSONValue {
    /// A list of values that `read` takes all; nil otherwise.
    public func list<Element>(_ read: (JSONValue) -> Element?) -> [Element]? {
        guard case .array(let values) = self else { return nil }
        var elements: [Element] = []
        elements.reserveCapacity(values.count)
        for value in values {
            guard let element = read(value) else { return nil }
            elements.append(element)
        }
        return elements
    }
}

extension ContentHash: DirectlyCoded {
    public var json: JSONValue? { .string(hex) }
    public init?(json: JSONValue) {
        guard case .string(let text) = json else { return nil }
        self.init(hex: text)
    }
}

extension LogEntry.Chunk: DirectlyCoded {
    public var json: JSONValue? {
        .object(.init(present: ["identity": identity.json, "key": key.map { .string($0) }, "rows": .integer(rows), "bytes": .integer(bytes)]))
    }
    public init?(json: JSONValue) {
        guard case .object(let fields) = json, let identity = fields["identity"].flatMap(ContentHash.init(json:)), let rows = fields["rows"]?.int,
            let bytes = fields["bytes"]?.int, let key = fields.optional("key", \.string)
        else { return nil }
        self.init(identity: identity, key: key, rows: rows, bytes: bytes)
    }
}

extension LogEntry.Kind: DirectlyCoded {
    public var json: JSONValue? {
        guard case .chunk(let chunk) = self, let chunk = chunk.json else { return nil }
        return .object(["chunk": .object(["_0": chunk])])
    }
    public init?(json: JSONValue) {
        guard case .object(let fields) = json, fields.count == 1, let chunk = fields["chunk"]?["_0"].flatMap(LogEntry.Chunk.init(json:)) else { return nil }
        self = .chunk(chunk)
    }
}
