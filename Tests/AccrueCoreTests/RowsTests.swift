import AccrueCore
import Foundation
import Testing

@Suite("Rows are checked against their schema")
struct RowsTests {
    static let schema = Schema([
        TensorSchema("inputs", role: .input, dtype: .f32, shape: [2]),
        TensorSchema("targets", role: .target, dtype: .u8, shape: [], classes: ["no", "yes"]),
    ])
    static let inputs = TensorBytes([1, 2, 3, 4] as [Float], shape: [2, 2])
    static let targets = TensorBytes([0, 1] as [UInt8], shape: [2])

    static func refusal(_ tensors: [String: TensorBytes]) -> AccrueError? {
        do {
            _ = try Rows(tensors, schema: schema, while: "testing")
            return nil
        } catch { return error }
    }

    @Test("rows that fit are accepted, and their slices share the schema")
    func fitting() throws {
        let rows = try Rows(["inputs": Self.inputs, "targets": Self.targets], schema: Self.schema, while: "testing")
        #expect(rows.count == 2)
        #expect(rows.rows(1..<2).tensors["inputs"]?.doubles() == [3, 4])
    }

    @Test("each kind of misfit is refused as invalid input, naming the tensor")
    func misfits() {
        let bad: [[String: TensorBytes]] = [
            ["inputs": Self.inputs],
            ["inputs": Self.inputs, "targets": Self.targets, "extra": Self.targets],
            ["inputs": TensorBytes([1, 2, 3, 4] as [Double], shape: [2, 2]), "targets": Self.targets],
            ["inputs": TensorBytes([1, 2, 3, 4] as [Float], shape: [4, 1]), "targets": Self.targets],
            ["inputs": TensorBytes([1, 2, 3, 4] as [Float], shape: [4]), "targets": Self.targets],
            ["inputs": Self.inputs, "targets": TensorBytes([0] as [UInt8], shape: [1])],
            ["inputs": TensorBytes([] as [Float], shape: [0, 2]), "targets": TensorBytes([] as [UInt8], shape: [0])],
            ["inputs": TensorBytes([1, .nan, 3, 4] as [Float], shape: [2, 2]), "targets": Self.targets],
            ["inputs": TensorBytes([1, .infinity, 3, 4] as [Float], shape: [2, 2]), "targets": Self.targets],
            ["inputs": Self.inputs, "targets": TensorBytes([0, 2] as [UInt8], shape: [2])],
        ]
        for tensors in bad {
            let error = Self.refusal(tensors)
            #expect(error?.code == .invalidInput)
            #expect(error?.problem.contains("tensor '") == true)
        }
    }

    @Test("NaN is allowed where the schema says so, infinity never")
    func missingValues() throws {
        let schema = Schema([TensorSchema("inputs", role: .input, dtype: .f64, shape: [], missing: .nan)])
        _ = try Rows(["inputs": TensorBytes([1, .nan] as [Double], shape: [2])], schema: schema, while: "testing")
        #expect(throws: AccrueError.self) {
            try Rows(["inputs": TensorBytes([1, .infinity] as [Double], shape: [2])], schema: schema, while: "testing")
        }
    }

    @Test("the identity depends on content alone: equal rows agree, any change differs")
    func identity() throws {
        func identity(_ values: [Float], _ labels: [UInt8]) throws -> ContentHash {
            try Rows(
                ["inputs": TensorBytes(values, shape: [2, 2]), "targets": TensorBytes(labels, shape: [2])], schema: Self.schema, while: "testing"
            ).identity
        }
        let one = try identity([1, 2, 3, 4], [0, 1])
        #expect(try identity([1, 2, 3, 4], [0, 1]) == one)
        #expect(try identity([1, 2, 3, 5], [0, 1]) != one)
        #expect(try identity([1, 2, 3, 4], [1, 1]) != one)
    }

    @Test("identities made together are those made one by one, whatever the sizes", arguments: [2, 7, 8, 9, 16, 37])
    func identities(count: Int) throws {
        let contents = try (0..<count).map { index in
            // Around the ends of the hash's blocks of 64 bytes, and far beyond.
            let rows = 1 + (index * 7) % 60 + (index % 3 == 0 ? 4_000 : 0)
            let values = (0..<2 * rows).map { Float($0 &* 31 &+ index) }
            return try Rows(
                ["inputs": TensorBytes(values, shape: [rows, 2]), "targets": TensorBytes([UInt8](repeating: 1, count: rows), shape: [rows])],
                schema: Self.schema, while: "testing")
        }
        #expect(Rows.identities(of: contents) == contents.map(\.identity))
        #expect(Rows.identities(of: []) == [])
    }

    @Test("the row of a number that is not finite is named, wherever it is", arguments: [0, 511, 512, 1_499])
    func badRow(row: Int) {
        for number in [Float.nan, .infinity, -.infinity] {
            var values = [Float](repeating: -.greatestFiniteMagnitude, count: 3_000)
            values[2 * row + 1] = number
            let tensors = ["inputs": TensorBytes(values, shape: [1_500, 2]), "targets": TensorBytes([UInt8](repeating: 0, count: 1_500), shape: [1_500])]
            #expect(Self.refusal(tensors)?.problem == "tensor 'inputs' has a value in row \(row) that is not finite")
        }
    }
}
