public import AccrueCore
public import Foundation

/// Named tensors with the same number of rows, to be cut into chunks or questions.
public struct TensorRows: Sendable {
    public let tensors: [String: TensorBytes]
    public let count: Int

    /// - Throws: `invalidInput` for no tensors, for unequal numbers of rows, and when there are no rows.
    public init(_ tensors: [String: TensorBytes], while operation: String) throws(AccrueError) {
        guard let first = tensors.min(by: { $0.key < $1.key }) else {
            throw AccrueError(.invalidInput, while: operation, "there are no tensors", hint: "give each tensor of the schema with --tensor NAME=FILE, or a CSV file")
        }
        for (name, tensor) in tensors.sorted(by: { $0.key < $1.key }) {
            guard let rows = tensor.shape.first, rows > 0 else { throw AccrueError(.invalidInput, while: operation, "tensor '\(name)' has no rows", hint: "give at least one row") }
            guard rows == first.value.rowCount else {
                throw AccrueError(
                    .invalidInput, while: operation, "tensor '\(name)' has \(rows) rows, tensor '\(first.key)' has \(first.value.rowCount)",
                    hint: "all tensors need the same rows")
            }
        }
        self.tensors = tensors
        count = first.value.rowCount
    }

    /// Some consecutive rows, sharing storage.
    /// - Parameter rows: nil, or more than there are: all from the first on.
    /// - Throws: `invalidInput` when no row is left.
    public func stretch(from first: Int, rows: Int?, while operation: String) throws(AccrueError) -> TensorRows {
        guard (0..<count).contains(first), rows ?? 1 > 0 else {
            throw AccrueError(.invalidInput, while: operation, "no row is left: \(rows.map(String.init) ?? "all") rows from row \(first) of \(count)", hint: "rows count from 0")
        }
        return try TensorRows(tensors(first..<min(count, rows.map { first + $0 } ?? count)), while: operation)
    }

    public func tensors(_ range: Range<Int>) -> [String: TensorBytes] { tensors.mapValues { $0.rows(range) } }

    /// Safetensors bytes of all rows.
    public func chunk() -> Data { chunk(0..<count) }

    /// Safetensors bytes of some rows.
    public func chunk(_ range: Range<Int>) -> Data { Safetensors(tensors: tensors(range)).encode() }

    /// All rows in consecutive ranges.
    public func ranges(perRange: Int) -> [Range<Int>] { stride(from: 0, to: count, by: max(1, perRange)).map { $0..<min(count, $0 + max(1, perRange)) } }

    /// How many rows fit into so many bytes; at least one.
    public func rows(inBytes bytes: Int, atMost most: Int) -> Int {
        let perRow = tensors.values.reduce(0) { $0 + $1.data.count } / count
        return max(1, min(most, bytes / max(1, perRow)))
    }
}
