import AccrueCore
import Foundation
import Testing

@Suite("JSON")
struct JSONTests {
    static func parse(_ text: String) throws -> JSONValue { try JSONValue(parsing: Data(text.utf8)) }

    @Test("every kind of value is read")
    func values() throws {
        let text = #" {"a":[1,-2,0,1.5,-1e-3,12E2],"b":{"c":null,"d":true,"e":false},"ü":"x","f":[],"g":{}} "#
        let expected: JSONValue = [
            "a": [1, -2, 0, 1.5, -0.001, 1200], "b": ["c": .null, "d": true, "e": false], "ü": "x", "f": [], "g": .object([:]),
        ]
        #expect(try Self.parse(text) == expected)
        #expect(try Self.parse(expected.canonical) == expected)
    }

    @Test("escapes are read, halves of characters joined")
    func escapes() throws {
        #expect(try Self.parse(#""\"\\\/\b\f\n\r\t\u00fc\ud83d\ude00 e""#) == .string("\"\\/\u{8}\u{c}\n\r\tü😀 e"))
        let all = JSONValue.string(String(String.UnicodeScalarView((0..<0x3000).compactMap(Unicode.Scalar.init))))
        #expect(try Self.parse(all.canonical) == all)
    }

    @Test("a whole number is the same value however it is written; others keep all their bits")
    func numbers() throws {
        for text in ["3", "3.0", "3e0", "0.3E1", "30e-1"] { #expect(try Self.parse(text) == .integer(3)) }
        #expect(try Self.parse("9223372036854775807") == .integer(.max) && Self.parse("-9223372036854775808") == .integer(.min))
        #expect(try Self.parse("9223372036854775808") == .number(9223372036854775808))
        for text in ["-0", "-0.0"] { #expect(try Self.parse(text).double?.sign == .minus) }
        for number: Double in [0.1, 1 / 3, .leastNonzeroMagnitude, 1.7976931348623157e308, 0x1p53, -2.5e17, .pi] {
            #expect(try Self.parse(JSONValue.number(number).canonical).double == number)
        }
    }

    @Test(
        "what is not JSON is refused",
        arguments: [
            "", " ", "{", "[", "[1", "[1,", "[1,]", "{\"a\"}", "{\"a\":}", "{\"a\":1,}", "{a:1}", "{1:2}", "{\"a\":1 \"b\":2}", "01", "+1", "1.", ".5", "1e", "--1", "-",
            "NaN", "Infinity", "1e400", "tru", "nul", "True", "'a'", "\"a", "\"\\x\"", "\"\\u12\"", "\"\\u12g4\"", "\"\\ud800\"", "\"\\udc00\"", "\"\\ud800\\u0041\"",
            "\"\n\"", "1 2", "[1]]", "{\"a\":1,\"a\":2}", "\u{feff}1", "/**/1", "\0",
        ])
    func refused(text: String) {
        let error = #expect(throws: AccrueError.self) { try Self.parse(text) }
        #expect(error?.code == .invalidInput)
    }

    @Test("bytes that are not UTF-8 are refused", arguments: [[0xFF], [0x22, 0xC3, 0x22], [0x22, 0xED, 0xA0, 0x80, 0x22], [0x22, 0xC0, 0x80, 0x22]])
    func notText(bytes: [UInt8]) { #expect(throws: AccrueError.self) { try JSONValue(parsing: Data(bytes)) } }

    @Test("values nest so deep and no deeper")
    func depth() throws {
        func nested(_ depth: Int) -> String { String(repeating: "[", count: depth) + String(repeating: "]", count: depth) }
        _ = try Self.parse(nested(Limits.jsonDepthMax))
        #expect(throws: AccrueError.self) { try Self.parse(nested(Limits.jsonDepthMax + 2)) }
        #expect(throws: AccrueError.self) { try Self.parse(String(repeating: "[", count: Limits.headerBytesMax)) }
    }

    @Test("lists within lists are read at a cost that grows with their number, not with their depth")
    func cost() throws {
        /// Seconds of this thread's processor time, which a busy machine does not stretch as it does the wall's.
        func seconds(_ work: () throws -> Void) rethrows -> Double {
            func now() -> Double {
                var time = timespec()
                clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
                return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
            }
            let start = now()
            try work()
            return now() - start
        }
        func read(depth: Int) throws {
            let one = String(repeating: "[", count: depth) + String(repeating: "]", count: depth)
            let value = try Self.parse("[\(Array(repeating: one, count: 20_000 / depth).joined(separator: ","))]")
            #expect(try JSONValue.object(["id": "x", "settings": value]).decode([String: JSONValue].self, while: "testing")["settings"] == value)
        }
        let shallow = try seconds { try read(depth: 2) }, deep = try seconds { try read(depth: 100) }
        // Hundreds of times as much when every value was tried as each kind in turn.
        #expect(deep < 20 * shallow)
    }

    struct Everything: Codable, Equatable {
        enum Kind: Codable, Equatable { case plain, with(number: Int, text: String?) }
        enum Word: String, Codable { case one, two }
        struct Inner: Codable, Equatable { var list: [Double?], names: [String: Int8] }
        var flag: Bool, small: UInt16, seed: UInt64, ratio: Double, single: Float, maybe: Int?, never: Int?
        var kinds: [Kind], word: Word, inner: Inner, json: JSONValue
    }

    @Test("Codable types of every form come back as they were")
    func codable() throws {
        let value = Everything(
            flag: true, small: 65535, seed: 1 << 60, ratio: 2, single: 0.25, maybe: 4, never: nil, kinds: [.plain, .with(number: -1, text: nil)], word: .two,
            inner: .init(list: [1, nil, -0.5], names: ["a": -128]), json: ["x": [1, 2.5, "y", .null]])
        let json = try JSONValue(encoding: value)
        #expect(try json.decode(Everything.self, while: "testing") == value)
        #expect(try JSONValue(parsing: Data(json.canonical.utf8)) == json)
        // The same as by way of the text.
        #expect(try JSONValue(parsing: JSONEncoder().encode(value)) == json)
    }

    struct Number<Value: Codable>: Codable { var value: Value }

    @Test("numbers are encoded as their text says: whole ones as integers, a Float32 as the shortest decimal; what is not finite is refused with its place")
    func encodedNumbers() throws {
        func same<Value: Codable>(_ value: Value) throws -> Bool {
            try JSONValue(encoding: Number(value: [value])) == JSONValue(parsing: JSONEncoder().encode(Number(value: [value])))
        }
        for number in [0x1p53, 0x1p63, -0x1p63, -0.0] {
            let json = try JSONValue(encoding: [number])
            #expect(try JSONValue(parsing: Data(json.canonical.utf8)) == json)
        }
        for number in [0.0, 1.0, -2.5, 1e300, .pi, .leastNonzeroMagnitude] { #expect(try same(number), "\(number)") }
        for number: Float in [0.1, 3, .pi, .leastNonzeroMagnitude, 3e38] { #expect(try same(number), "\(number)") }
        for number: UInt64 in [0, 1 << 60, .max] { #expect(try same(number), "\(number)") }
        #expect(try same(Int8.min) && same(UInt8.max) && same(true) && same("ü\"") && same([1: 2]) && same(["a": [Int]()]) && same(Int?.none))
        for value in [Double.nan, .infinity] {
            let error = #expect(throws: AccrueError.self) { try JSONValue(encoding: Number(value: ["a": [1, value]])) }
            #expect(error?.code == .invalidInput && error?.problem.contains("'value.a.1'") == true, "\(error?.problem ?? "")")
        }
    }

    @Test("what does not fit a type is refused with the place", arguments: [
        ("small", JSONValue.integer(65536), "small"), ("flag", 1, "flag"), ("ratio", "1", "ratio"), ("maybe", 1.5, "maybe"), ("word", "three", "word"),
        ("inner", ["list": [1, "x"], "names": .object([:])], "inner.list.1"), ("kinds", [["with": ["text": "a"]]], "kinds.0.with.number"),
    ] as [(String, JSONValue, String)])
    func misfits(field: String, value: JSONValue, place: String) throws {
        let good = Everything(
            flag: true, small: 1, seed: 1, ratio: 2, single: 0.25, maybe: nil, never: nil, kinds: [], word: .two, inner: .init(list: [], names: [:]), json: .null)
        guard case .object(var fields) = try JSONValue(encoding: good) else { return #expect(Bool(false)) }
        fields[field] = value
        let error = #expect(throws: AccrueError.self) { try JSONValue.object(fields).decode(Everything.self, while: "testing") }
        #expect(error?.code == .invalidInput && error?.problem.contains("'\(place)'") == true, "\(error?.problem ?? "")")
    }
}
