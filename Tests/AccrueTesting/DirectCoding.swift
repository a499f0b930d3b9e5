public import AccrueCore
import Foundation

extension DirectlyCoded {
    /// What the text says; nil when only the Codable form writes this value.
    public var json: JSONValue? { text.flatMap { try? JSONValue(parsing: Data($0)) } }
}

/// Compares the JSON that a value writes itself with that of its Codable form.
public enum DirectCoding {
    /// Whether each form writes what the other does, by itself as canonical text, and reads it as this value.
    public static func agrees<Value: DirectlyCoded & Equatable>(_ value: Value) throws -> Bool {
        // A list is written and read by Codable, and so is what stands in it.
        let byCodable = try JSONValue(encoding: [value])
        guard let text = value.text, let json = value.json, byCodable == .array([json]), json.canonical.utf8.elementsEqual(text) else { return false }
        return try Value(json: json) == value && byCodable.decode([Value].self, while: "comparing") == [value]
    }
}
