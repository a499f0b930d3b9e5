import AccrueCore
import Foundation

/// Data goes to standard output, everything else to standard error.
enum Output {
    /// One line of data; it is out when this returns.
    static func line(_ text: String) {
        print(text)
        fflush(nil)
    }

    /// A value as one line of JSON.
    static func json(_ value: some Encodable) throws(AccrueError) { line(try JSONValue(encoding: value).canonical) }

    /// Measured figures: as JSON, or a line each in the order of their names.
    static func figures(_ figures: [String: Double], json: Bool) throws(AccrueError) {
        if json { return try self.json(figures) }
        for (name, value) in figures.sorted(by: { $0.key < $1.key }) { line("\(name): \(short(value))") }
    }

    /// One line for a person.
    static func note(_ text: String) { FileHandle.standardError.write(Data("\(text)\n".utf8)) }

    /// A number for a person.
    static func short(_ value: Double) -> String { String(format: "%.6g", value) }

    /// Named figures for a person, in one line.
    static func figures(_ figures: [String: Double]) -> String {
        figures.sorted { $0.key < $1.key }.map { "\($0.key) \(short($0.value))" }.joined(separator: "  ")
    }

    /// Milliseconds since 1970 as a date and time, UTC.
    static func time(_ ms: Int) -> String { Date(timeIntervalSince1970: Double(ms) / 1_000).ISO8601Format() }
}
