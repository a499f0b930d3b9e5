/// Reads one JSON value (RFC 8259) from bytes that nobody vouches for, in time proportional to their number.
///
/// Stricter than the standard where it leaves a choice: a key may stand in an object once, values nest at most `Limits.jsonDepthMax` deep, and
/// numbers must fit a Float64. Whole numbers are the same value however they are written: `3`, `3.0` and `3e0`.
struct JSONParser {
    struct Failure: Error { let problem: String }

    private let bytes: UnsafeBufferPointer<UInt8>
    private var index = 0

    init(_ bytes: UnsafeBufferPointer<UInt8>) { self.bytes = bytes }

    mutating func parse() throws(Failure) -> JSONValue {
        let value = try value(depth: 0)
        skipSpace()
        guard index == bytes.count else { throw failure("something follows the value") }
        return value
    }

    private mutating func value(depth: Int) throws(Failure) -> JSONValue {
        guard depth <= Limits.jsonDepthMax else { throw failure("values nest more than \(Limits.jsonDepthMax) deep") }
        skipSpace()
        switch peek {
        case UInt8(ascii: "{"): return try object(depth)
        case UInt8(ascii: "["): return try array(depth)
        case UInt8(ascii: "\""): return .string(try string())
        case UInt8(ascii: "t"): return try word("true", .bool(true))
        case UInt8(ascii: "f"): return try word("false", .bool(false))
        case UInt8(ascii: "n"): return try word("null", .null)
        case UInt8(ascii: "-"), UInt8(ascii: "0")...UInt8(ascii: "9"): return try number()
        default: throw failure("there is no value")
        }
    }

    private mutating func object(_ depth: Int) throws(Failure) -> JSONValue {
        index += 1
        skipSpace()
        if take("}") { return .object([:]) }
        var fields = [String: JSONValue](minimumCapacity: 6)
        repeat {
            skipSpace()
            guard peek == UInt8(ascii: "\"") else { throw failure("there is no key") }
            let key = try string()
            skipSpace()
            guard take(":") else { throw failure("there is no ':' after key '\(key)'") }
            guard fields.updateValue(try value(depth: depth + 1), forKey: key) == nil else { throw failure("key '\(key)' stands there twice") }
            skipSpace()
        } while take(",")
        guard take("}") else { throw failure("an object does not end") }
        return .object(fields)
    }

    private mutating func array(_ depth: Int) throws(Failure) -> JSONValue {
        var values: [JSONValue] = []
        index += 1
        skipSpace()
        if take("]") { return .array(values) }
        repeat {
            values.append(try value(depth: depth + 1))
            skipSpace()
        } while take(",")
        guard take("]") else { throw failure("a list does not end") }
        return .array(values)
    }

    private mutating func number() throws(Failure) -> JSONValue {
        let start = index
        let isNegative = take("-")
        if !take("0") { try digits() }
        var isWhole = true
        if take(".") {
            isWhole = false
            try digits()
        }
        if take("e") || take("E") {
            isWhole = false
            if !take("-") { _ = take("+") }
            try digits()
        }
        let text = String(decoding: bytes[start..<index], as: UTF8.self)
        if isWhole, let whole = Int(text), whole != 0 || !isNegative { return .integer(whole) }
        guard let number = Double(text), number.isFinite else { throw failure("the number \(text.prefix(40)) does not fit 64 bits") }
        let isExact = number.magnitude < 0x1p53 && (number != 0 || number.sign == .plus)
        if isExact, let whole = Int(exactly: number) { return .integer(whole) }
        return .number(number)
    }

    private mutating func digits() throws(Failure) {
        let start = index
        while (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(peek) { index += 1 }
        if index == start { throw failure("a number lacks a digit") }
    }

    private mutating func string() throws(Failure) -> String {
        index += 1
        let start = index
        while index < bytes.count, bytes[index] != UInt8(ascii: "\""), bytes[index] != UInt8(ascii: "\\"), bytes[index] >= 0x20 { index += 1 }
        var text = bytes[start..<index].withContiguousStorageIfAvailable { String(decoding: $0, as: UTF8.self) } ?? ""
        while !take("\"") {
            guard index < bytes.count else { throw failure("a string does not end") }
            guard bytes[index] >= 0x20 else { throw failure("a control character stands in a string") }
            if take("\\") {
                text.unicodeScalars.append(try escape())
            } else {
                let start = index
                while index < bytes.count, bytes[index] != UInt8(ascii: "\""), bytes[index] != UInt8(ascii: "\\"), bytes[index] >= 0x20 { index += 1 }
                text += String(decoding: bytes[start..<index], as: UTF8.self)
            }
        }
        return text
    }

    private mutating func escape() throws(Failure) -> Unicode.Scalar {
        defer { index += 1 }
        switch peek {
        case UInt8(ascii: "\""): return "\""
        case UInt8(ascii: "\\"): return "\\"
        case UInt8(ascii: "/"): return "/"
        case UInt8(ascii: "b"): return "\u{8}"
        case UInt8(ascii: "f"): return "\u{C}"
        case UInt8(ascii: "n"): return "\n"
        case UInt8(ascii: "r"): return "\r"
        case UInt8(ascii: "t"): return "\t"
        case UInt8(ascii: "u"):
            let first = try hexadecimal()
            if let scalar = Unicode.Scalar(first) { return scalar }
            // Characters beyond 16 bits are written as two halves.
            guard first < 0xDC00, index + 2 < bytes.count, bytes[index + 1] == UInt8(ascii: "\\"), bytes[index + 2] == UInt8(ascii: "u") else {
                throw failure("a string holds half a character")
            }
            index += 2
            let second = try hexadecimal()
            guard (0xDC00..<0xE000).contains(second), let scalar = Unicode.Scalar(0x10000 + (first - 0xD800) << 10 + (second - 0xDC00)) else {
                throw failure("a string holds half a character")
            }
            return scalar
        default: throw failure("a string holds an unknown escape")
        }
    }

    /// The four digits after the `u` at `index`, which is left at the last of them.
    private mutating func hexadecimal() throws(Failure) -> UInt32 {
        guard index + 4 < bytes.count else { throw failure("a string does not end") }
        var value: UInt32 = 0
        for _ in 0..<4 {
            index += 1
            guard let digit = Character(Unicode.Scalar(bytes[index])).hexDigitValue else { throw failure("an escape is not four hexadecimal digits") }
            value = value << 4 + UInt32(digit)
        }
        return value
    }

    private mutating func word(_ word: StaticString, _ value: JSONValue) throws(Failure) -> JSONValue {
        let end = index + word.utf8CodeUnitCount
        guard end <= bytes.count, (0..<word.utf8CodeUnitCount).allSatisfy({ bytes[index + $0] == word.utf8Start[$0] }) else { throw failure("there is no value") }
        index = end
        return value
    }

    /// The byte at `index`; 0 at the end, which begins nothing.
    private var peek: UInt8 { index < bytes.count ? bytes[index] : 0 }

    private mutating func take(_ character: Unicode.Scalar) -> Bool {
        guard peek == UInt8(ascii: character), index < bytes.count else { return false }
        index += 1
        return true
    }

    private mutating func skipSpace() {
        while index < bytes.count, bytes[index] == 0x20 || bytes[index] == 0x0A || bytes[index] == 0x0D || bytes[index] == 0x09 { index += 1 }
    }

    private func failure(_ problem: String) -> Failure { Failure(problem: "\(problem) (at byte \(index))") }
}
