import AccrueClient
import AccrueCore
import Foundation
import Testing

@Suite("Rows as JSON")
struct JSONRowsTests {
    private let schema = Schema([
        TensorSchema("pictures", role: .input, dtype: .u8, shape: [2, 2]), TensorSchema("places", role: .input, dtype: .f32, shape: [2], missing: .nan),
        TensorSchema("classes", role: .target, dtype: .i64, shape: [], classes: ["cat", "dog"]), TensorSchema("seen", role: .mask, dtype: .bool, shape: []),
    ])

    private func rows(_ text: String) throws -> TensorRows { try TensorRows(json: try JSONValue(parsing: Data(text.utf8)), schema: schema, while: "testing") }

    @Test("lists within lists become tensors of the schema's types; class names are their numbers, null is not observed")
    func tensors() throws {
        let rows = try rows(#"{"pictures": [[[0, 1], [2, 255]], [[3, 4], [5, 6]]], "places": [[0.5, null], [-1, 1e3]], "classes": ["dog", 0]}"#)
        #expect(rows.count == 2)
        #expect(rows.tensors["pictures"] == TensorBytes([0, 1, 2, 255, 3, 4, 5, 6] as [UInt8], shape: [2, 2, 2]))
        #expect(rows.tensors["classes"] == TensorBytes([1, 0] as [Int64], shape: [2]))
        let places = try #require(rows.tensors["places"]?.doubles())
        #expect(places[0] == 0.5 && places[1].isNaN && places[2] == -1 && places[3] == 1_000)
    }

    @Test("whole numbers stay exact, and truth values are true and false or 1 and 0")
    func exact() throws {
        let rows = try rows(#"{"classes": [9007199254740993, -9223372036854775808, 3.0], "seen": [true, 0, 1]}"#)
        #expect(rows.tensors["classes"] == TensorBytes([9_007_199_254_740_993, .min, 3] as [Int64], shape: [3]))
        #expect(rows.tensors["seen"]?.doubles() == [1, 0, 1])
    }

    @Test("not all tensors need be there, as in a question") func some() throws { #expect(try rows(#"{"places": [[1, 2]]}"#).tensors.count == 1) }

    @Test("what does not fit is refused, naming tensor, row and value", arguments: [
        (#"[1]"#, "not a JSON object"), (#"{}"#, "there are no tensors"), (#"{"plces": []}"#, "'plces'"), (#"{"places": 3}"#, "'places' is not an array"),
        (#"{"places": []}"#, "'places' has no rows"), (#"{"places": [[1, 2], [3]]}"#, "'places', row 1: the list has 1 values; 2 values are needed"),
        (#"{"places": [[1, [2]]]}"#, "'places', row 0: [2] is not a number of type F32"), (#"{"places": [1]}"#, "'places', row 0: there is no list; 2 values are needed"),
        (#"{"pictures": [[[0, 256], [0, 0]]]}"#, "'pictures', row 0: 256 is not a number of type U8"), (#"{"pictures": [[[0, 0.5], [0, 0]]]}"#, "0.5 is not a number of type U8"),
        (#"{"pictures": [[[0, null], [0, 0]]]}"#, "null is not a number"), (#"{"seen": [2]}"#, "2 is not a number of type BOOL"), (#"{"places": [[true, 1]]}"#, "true is not a number of type F32"),
        (#"{"classes": ["bird"]}"#, #""bird" is not a number of type I64"#),
        (#"{"places": [[1, 2]], "classes": [0, 1]}"#, "tensor 'places' has 1 rows, tensor 'classes' has 2"),
    ])
    func refused(text: String, problem: String) {
        #expect { try rows(text) } throws: { error in
            guard let error = error as? AccrueError else { return false }
            return error.code == .invalidInput && "\(error.operation): \(error.problem)".contains(problem)
        }
    }

    @Test("a tensor as JSON is lists within lists")
    func written() {
        #expect(TensorBytes([1, 2, 3, 4, 5, 6] as [Float], shape: [1, 3, 2]).json.canonical == "[[[1.0,2.0],[3.0,4.0],[5.0,6.0]]]")
        #expect(TensorBytes([0.5], shape: []).json.canonical == "0.5")
        #expect(TensorBytes([] as [Double], shape: [0, 4]).json.canonical == "[]")
    }
}
