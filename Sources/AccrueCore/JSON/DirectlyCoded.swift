/// A type that makes and reads its JSON itself, without Codable's containers: for what every push goes through, where they are most of the work.
///
/// It says what its Codable form says, which stays the one that explains what is wrong with a value that does not fit.
public protocol DirectlyCoded: Codable {
    /// Writes the canonical text.
    /// - Returns: false when only the Codable form writes this value; what was written then is of no use.
    func write(to text: inout JSONText) -> Bool
    /// Nil: the value is not of the usual form; the Codable form reads it, or says what is wrong.
    init?(json: JSONValue)
}

extension [String: JSONValue] {
    /// A field that may be missing; nil unless it is, or is null, or `read` takes it.
    public func optional<Field>(_ key: String, _ read: (JSONValue) -> Field?) -> Field?? {
        guard let value = self[key], value != .null else { return .some(nil) }
        return read(value).map { .some($0) }
    }
}

extension DirectlyCoded {
    /// The canonical text; nil when only the Codable form writes this value.
    public var text: [UInt8]? {
        var text = JSONText()
        return write(to: &text) ? text.bytes : nil
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
    public func write(to text: inout JSONText) -> Bool {
        text.write(self)
        return true
    }
    public init?(json: JSONValue) {
        guard case .string(let text) = json else { return nil }
        self.init(hex: text)
    }
}

extension LogEntry.Chunk: DirectlyCoded {
    public func write(to text: inout JSONText) -> Bool {
        write(to: &text, holders: [])
        return true
    }

    private func write(to text: inout JSONText, holders: [String]) {
        text.beginObject()
        text.field("bytes", bytes)
        if !holders.isEmpty { text.field("holders", holders) }
        text.field("identity", identity)
        if let key { text.field("key", key) }
        text.field("rows", rows)
        text.endObject()
    }

    /// Writes the log's entry of this chunk, `LogEntry.Kind.chunk`.
    /// - Parameter holders: workers that hold it, which a `Kind` does not say.
    public func writeEntry(to text: inout JSONText, holders: [String] = []) {
        text.beginObject()
        text.beginObject("chunk")
        text.beginKey("_0")
        write(to: &text, holders: holders)
        text.endObject()
        text.endObject()
    }
    public init?(json: JSONValue) {
        guard case .object(let fields) = json, let identity = fields["identity"].flatMap(ContentHash.init(json:)), let rows = fields["rows"]?.int,
            let bytes = fields["bytes"]?.int, let key = fields.optional("key", \.string)
        else { return nil }
        self.init(identity: identity, key: key, rows: rows, bytes: bytes)
    }
}

extension LogEntry.Kind: DirectlyCoded {
    public func write(to text: inout JSONText) -> Bool {
        guard case .chunk(let chunk) = self else { return false }
        chunk.writeEntry(to: &text)
        return true
    }
    public init?(json: JSONValue) {
        guard case .object(let fields) = json, fields.count == 1, let chunk = fields["chunk"]?["_0"].flatMap(LogEntry.Chunk.init(json:)) else { return nil }
        self = .chunk(chunk)
    }
}
