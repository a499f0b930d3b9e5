import AccrueCore
import Foundation
import Testing

@Suite("JSON text")
struct JSONTextTests {
    private static func read(_ text: String) throws -> JSONValue { try JSONValue(parsing: Data(text.utf8)) }

    @Test("every kind of value is read, with any white space")
    func values() throws {
        let text = " { \"a\" : [ 1 , -2.5e1, 1e400000000000000000000 ] }\r\n\t".replacingOccurrences(of: "1e400000000000000000000", with: "true")
        #expect(try Self.read(text) == ["a": [1, -25, .bool(true)]])
        #expect(try Self.read("null") == .null)
        #expect(try Self.read("[]") == [] && Self.read("{}") == [:])
        #expect(try Self.read("9223372036854775807").int == Int.max)
        #expect(try Self.read("9223372036854775808").double == 9_223_372_036_854_775_808)
        #expect(try Self.read("0.1").double == 0.1)
    }

    @Test("strings keep every character")
    func strings() throws {
        #expect(try Self.read(#""a\"\\\/\b\f\n\r\té😀\u00e9\ud83d\ude00""#).string == "a\"\\/\u{8}\u{c}\n\r\té😀é😀")
    }

    @Test(
        "what is not one JSON value is refused",
        arguments: [
            "", " ", "{", "}", "[1,]", "[1 2]", "{\"a\"}", "{\"a\":}", "{a:1}", "{\"a\":1,}", "01", "-", "+1", "1.", ".5", "1e", "1e999", "NaN", "tru", "nulll", "\"",
            "\"\u{1}\"", #""\x""#, #""\u12""#, #""\ud83d""#, #""\ude00""#, #""\ud83d\u0041""#, "1 2", "'a'", String(repeating: "[", count: 100_000),
        ])
    func malformed(text: String) {
        #expect { try Self.read(text) } throws: { ($0 as? AccrueError)?.code == .invalidInput }
    }

    @Test("bytes that are not UTF-8 are refused")
    func notText() {
        #expect(throws: AccrueError.self) { try JSONValue(parsing: Data([0x22, 0xFF, 0x22])) }
    }
}
