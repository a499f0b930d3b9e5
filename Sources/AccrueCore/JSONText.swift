import Foundation

/// Reads one JSON text (RFC 8259) in one pass, for headers that arrive by the thousand; no error is thrown on the way to a value.
struct JSONText {
    struct Failure: Error { var reason: String }

    /// Arrays and objects inside one another; deeper texts are refused, so that a hostile one cannot exhaust the stack.
    static let depthMax = 128

    private let bytes: UnsafeBufferPointer<UInt8>
    private var index = 0

    static func value(in data: Data) throws(Failure) -> JSONValue {
        let result: Result<JSONValue, Failure> = data.withUnsafeBytes { raw in
            var text = JSONText(bytes: raw.bindMemory(to: UInt8.self))
            do throws(Failure) {
                let value = try text.value(depth: 0)
                text.skipSpace()
                guard text.index == text.bytes.count else { throw text.failure("something follows the value") }
                return .success(value)
            } catch { return .failure(error) }
        }
        return try result.get()
    }

    private init(bytes: UnsafeBufferPointer<UInt8>) { self.bytes = bytes }

    private func failure(_ what: String) -> Failure { Failure(reason: "\(what) at byte \(index)") }

    private var next: UInt8? { index < bytes.count ? bytes[index] : nil }

    private mutating func skipSpace() {
        while index < bytes.count, bytes[index] == 0x20 || (0x09...0x0A).contains(bytes[index]) || bytes[index] == 0x0D { index += 1 }
    }

    private mutating func skips(_ byte: Character) -> Bool {
        skipSpace()
        guard next == byte.asciiValue else { return false }
        index += 1
        return true
    }

    private mutating func value(depth: Int) throws(Failure) -> JSONValue {
        guard depth < Self.depthMax else { throw failure("more than \(Self.depthMax) levels") }
        skipSpace()
        guard let next else { throw failure("no value") }
        switch next {
        case UInt8(ascii: "\""): return .string(try string())
        case UInt8(ascii: "{"): return .object(try fields(depth: depth))
        case UInt8(ascii: "["): return .array(try elements(depth: depth))
        case UInt8(ascii: "t"): return try word("true", .bool(true))
        case UInt8(ascii: "f"): return try word("false", .bool(false))
        case UInt8(ascii: "n"): return try word("null", .null)
        case UInt8(ascii: "-"), UInt8(ascii: "0")...UInt8(ascii: "9"): return try number()
        default: throw failure("no value")
        }
    }

    private mutating func word(_ word: String, _ value: JSONValue) throws(Failure) -> JSONValue {
        guard bytes[index...].starts(with: word.utf8) else { throw failure("no value") }
        index += word.utf8.count
        return value
    }

    private mutating func fields(depth: Int) throws(Failure) -> [String: JSONValue] {
        index += 1
        var fields: [String: JSONValue] = [:]
        if skips("}") { return fields }
        repeat {
            skipSpace()
            guard next == UInt8(ascii: "\"") else { throw failure("no key") }
            let key = try string()
            guard skips(":") else { throw failure("no ':'") }
            fields[key] = try value(depth: depth + 1)
        } while skips(",")
        guard skips("}") else { throw failure("no ',' or '}'") }
        return fields
    }

    private mutating func elements(depth: Int) throws(Failure) -> [JSONValue] {
        index += 1
        var elements: [JSONValue] = []
        if skips("]") { return elements }
        repeat { elements.append(try value(depth: depth + 1)) } while skips(",")
        guard skips("]") else { throw failure("no ',' or ']'") }
        return elements
    }

    /// A whole number that an `Int` holds is an integer, however it is written.
    private mutating func number() throws(Failure) -> JSONValue {
        let start = index
        if next == UInt8(ascii: "-") { index += 1 }
        let whole = digits()
        guard whole == 1 || (whole > 1 && bytes[index - whole] != UInt8(ascii: "0")) else { throw failure("not a number") }
        var isWhole = true
        if next == UInt8(ascii: ".") {
            index += 1
            isWhole = false
            guard digits() > 0 else { throw failure("not a number") }
        }
        if next == UInt8(ascii: "e") || next == UInt8(ascii: "E") {
            index += 1
            isWhole = false
            if next == UInt8(ascii: "+") || next == UInt8(ascii: "-") { index += 1 }
            guard digits() > 0 else { throw failure("not a number") }
        }
        let text = String(decoding: bytes[start..<index], as: UTF8.self)
        if isWhole, let integer = Int(text) { return .integer(integer) }
        guard let number = Double(text), number.isFinite else { throw failure("a number out of range") }
        return Int(exactly: number).map { .integer($0) } ?? .number(number)
    }

    private mutating func digits() -> Int {
        let start = index
        while index < bytes.count, (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(bytes[index]) { index += 1 }
        return index - start
    }

    private mutating func string() throws(Failure) -> String {
        index += 1
        var text = ""
        while true {
            let start = index
            while index < bytes.count, bytes[index] != UInt8(ascii: "\""), bytes[index] != UInt8(ascii: "\\"), bytes[index] >= 0x20 { index += 1 }
            guard let plain = String(validating: bytes[start..<index], as: UTF8.self) else { throw failure("not UTF-8") }
            text += plain
            switch next {
            case UInt8(ascii: "\""):
                index += 1
                return text
            case UInt8(ascii: "\\"):
                index += 1
                text.unicodeScalars.append(try escaped())
            default: throw failure("a string without an end")
            }
        }
    }

    private mutating func escaped() throws(Failure) -> Unicode.Scalar {
        defer { index += 1 }
        switch next {
        case UInt8(ascii: "\""): return "\""
        case UInt8(ascii: "\\"): return "\\"
        case UInt8(ascii: "/"): return "/"
        case UInt8(ascii: "b"): return "\u{8}"
        case UInt8(ascii: "f"): return "\u{c}"
        case UInt8(ascii: "n"): return "\n"
        case UInt8(ascii: "r"): return "\r"
        case UInt8(ascii: "t"): return "\t"
        case UInt8(ascii: "u"):
            let unit = try hexadecimal()
            if let scalar = Unicode.Scalar(unit) { return scalar }
            // Half of a character: the other half must follow.
            guard (0xD800..<0xDC00).contains(unit), bytes[(index + 1)...].starts(with: "\\u".utf8) else { throw failure("half a character") }
            index += 2
            let low = try hexadecimal()
            guard (0xDC00..<0xE000).contains(low), let scalar = Unicode.Scalar(0x10000 + (unit - 0xD800) << 10 + (low - 0xDC00)) else { throw failure("half a character") }
            return scalar
        default: throw failure("an unknown escape")
        }
    }

    /// Four digits after the `u` at the index; leaves the index on the last.
    private mutating func hexadecimal() throws(Failure) -> UInt32 {
        guard index + 4 < bytes.count, bytes[index + 1...index + 4].allSatisfy({ Character(Unicode.Scalar($0)).isHexDigit }),
            let unit = UInt32(String(decoding: bytes[index + 1...index + 4], as: UTF8.self), radix: 16)
        else { throw failure("an unknown escape") }
        index += 4
        return unit
    }
}
