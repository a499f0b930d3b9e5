/// JSON under construction, for values that write themselves: the canonical text, when fields are written in the order of their keys.
public struct JSONText: Sendable {
    public private(set) var bytes: [UInt8] = []

    public init() { bytes.reserveCapacity(320) }

    public mutating func beginObject(_ key: StaticString? = nil) {
        if let key { beginKey(key) }
        bytes.append(UInt8(ascii: "{"))
    }

    public mutating func endObject() { bytes.append(UInt8(ascii: "}")) }

    public mutating func field(_ key: StaticString, _ value: String) {
        beginKey(key)
        JSONValue.write(value, to: &bytes)
    }

    public mutating func field(_ key: StaticString, _ value: Int) {
        beginKey(key)
        bytes.append(contentsOf: String(value).utf8)
    }

    public mutating func field(_ key: StaticString, _ value: Bool) {
        beginKey(key)
        bytes.append(contentsOf: (value ? "true" : "false").utf8)
    }

    public mutating func field(_ key: StaticString, _ value: ContentHash) {
        beginKey(key)
        write(value)
    }

    public mutating func field(_ key: StaticString, _ values: [String]) {
        beginKey(key)
        bytes.append(UInt8(ascii: "["))
        for (index, value) in values.enumerated() {
            if index > 0 { bytes.append(UInt8(ascii: ",")) }
            JSONValue.write(value, to: &bytes)
        }
        bytes.append(UInt8(ascii: "]"))
    }

    /// - Returns: false when the value has only a Codable form.
    public mutating func field(_ key: StaticString, _ value: some DirectlyCoded) -> Bool {
        beginKey(key)
        return value.write(to: &self)
    }

    /// - Returns: false when one of the values has only a Codable form.
    public mutating func field(_ key: StaticString, _ values: [some DirectlyCoded]) -> Bool {
        beginKey(key)
        bytes.append(UInt8(ascii: "["))
        for (index, value) in values.enumerated() {
            if index > 0 { bytes.append(UInt8(ascii: ",")) }
            guard value.write(to: &self) else { return false }
        }
        bytes.append(UInt8(ascii: "]"))
        return true
    }

    mutating func write(_ hash: ContentHash) {
        bytes.append(UInt8(ascii: "\""))
        hash.appendDigits(to: &bytes)
        bytes.append(UInt8(ascii: "\""))
    }

    /// What the next value written is called.
    mutating func beginKey(_ key: StaticString) {
        if bytes.last != UInt8(ascii: "{") { bytes.append(UInt8(ascii: ",")) }
        bytes.append(UInt8(ascii: "\""))
        key.withUTF8Buffer { bytes.append(contentsOf: $0) }
        bytes.append(UInt8(ascii: "\""))
        bytes.append(UInt8(ascii: ":"))
    }
}
