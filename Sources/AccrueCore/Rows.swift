import Foundation

/// Rows that fit a schema: its tensors, checked, all with the same first dimension.
public struct Rows: Equatable, Sendable {
    public let schema: Schema
    /// By schema name; each `[count] + row shape`.
    public let tensors: [String: TensorBytes]
    public let count: Int

    /// Checks tensors against a schema.
    ///
    /// - Throws: `invalidInput` for a missing or unknown tensor, a wrong dtype or shape, unequal or zero row counts, a value that the missing
    ///   rule does not allow, or a class index out of range; `limitExceeded` for too many rows.
    public init(
        _ tensors: [String: TensorBytes], schema: Schema, roles: Set<TensorSchema.Role> = [.input, .target, .mask], while operation: String
    ) throws(AccrueError) {
        let expected = schema.tensors.filter { roles.contains($0.role) }
        func refuse(_ problem: String, _ hint: String) -> AccrueError { AccrueError(.invalidInput, while: operation, problem, hint: hint) }
        for name in tensors.keys.sorted() where !expected.contains(where: { $0.name == name }) {
            throw refuse("tensor '\(name)' is not in the schema", "the schema's tensors are \(expected.map(\.name).joined(separator: ", "))")
        }
        var count: Int?
        for spec in expected {
            guard let tensor = tensors[spec.name] else { throw refuse("tensor '\(spec.name)' is missing", "send every tensor of the schema") }
            guard tensor.dtype == spec.dtype else {
                throw refuse(
                    "tensor '\(spec.name)' has dtype \(tensor.dtype.rawValue); the schema says \(spec.dtype.rawValue)",
                    "convert it before pushing")
            }
            guard tensor.shape.count == spec.shape.count + 1, Array(tensor.shape.dropFirst()) == spec.shape else {
                throw refuse(
                    "tensor '\(spec.name)' has shape \(tensor.shape); the schema says [rows] + \(spec.shape)",
                    "the first dimension counts rows; the others must match the schema")
            }
            guard tensor.rowCount > 0 else { throw refuse("tensor '\(spec.name)' has no rows", "send at least one row") }
            guard tensor.rowCount <= Limits.chunkRowsMax else {
                throw AccrueError(
                    .limitExceeded, while: operation, "\(tensor.rowCount) rows; at most \(Limits.chunkRowsMax) are allowed",
                    hint: "send smaller chunks")
            }
            if let count, count != tensor.rowCount {
                throw refuse("tensor '\(spec.name)' has \(tensor.rowCount) rows; the tensors before it have \(count)", "all tensors need the same rows")
            }
            count = tensor.rowCount
            if let row = Self.badRow(tensor, spec) {
                throw refuse("tensor '\(spec.name)' has a value in row \(row) that is not finite", "remove the row, or declare 'missing: nan'")
            }
            if let classes = spec.classes, let bad = tensor.doubles().first(where: { $0 < 0 || $0 >= Double(classes.count) || $0 != $0.rounded() }) {
                throw refuse("tensor '\(spec.name)' holds class \(bad); the schema has \(classes.count) classes (0 to \(classes.count - 1))", "check the labels")
            }
        }
        self.schema = schema
        self.tensors = tensors
        self.count = count ?? 0
    }

    private init(unchecked tensors: [String: TensorBytes], schema: Schema, count: Int) {
        self.schema = schema
        self.tensors = tensors
        self.count = count
    }

    /// Rows `range`, sharing storage.
    public func rows(_ range: Range<Int>) -> Rows {
        Rows(unchecked: tensors.mapValues { $0.rows(range) }, schema: schema, count: range.count)
    }

    /// The rows of these numbers, in this order.
    public func rows(at numbers: some Collection<Int>) -> Rows {
        Rows(unchecked: tensors.mapValues { $0.rows(at: numbers) }, schema: schema, count: numbers.count)
    }

    /// Rows of one schema, one after the other; nil of none.
    public static func joined(_ parts: [Rows]) -> Rows? {
        guard let first = parts.first else { return nil }
        var tensors: [String: TensorBytes] = [:]
        for name in first.tensors.keys { tensors[name] = TensorBytes.joined(parts.compactMap { $0.tensors[name] }) }
        return Rows(unchecked: tensors, schema: first.schema, count: parts.reduce(0) { $0 + $1.count })
    }

    private static func badRow(_ tensor: TensorBytes, _ spec: TensorSchema) -> Int? {
        tensor.firstNotFinite(allowingNaN: spec.missing == .nan).map { $0 / max(1, spec.rowElementCount) }
    }
}
