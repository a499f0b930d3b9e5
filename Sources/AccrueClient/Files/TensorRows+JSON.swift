public import AccrueCore
import Foundation

extension TensorRows {
    /// Rows as JSON: an object with an array for each tensor, an element a row, each row in lists within lists as the schema's shape says; a row of
    /// one number is that number. Class names stand for their numbers, null for what was not observed.
    ///
    /// - Parameter schema: gives types and shapes; not all of its tensors need be there.
    /// - Throws: `invalidInput` naming the tensor, the row and the value, for an unknown tensor, another shape, a value that is no number of the type.
    public init(json: JSONValue, schema: Schema, while operation: String) throws(AccrueError) {
        guard let fields = json.object else {
            throw AccrueError(.invalidInput, while: operation, "the tensors are not a JSON object", hint: #"write for example {"tensors": {"inputs": [[0.5, 1]]}}"#)
        }
        try StrictKeys.check(json, known: schema.tensors.map(\.name), while: operation)
        var tensors: [String: TensorBytes] = [:]
        for tensor in schema.tensors {
            guard let value = fields[tensor.name] else { continue }
            guard let rows = value.array else {
                throw AccrueError(.invalidInput, while: operation, "tensor '\(tensor.name)' is not an array of rows", hint: "write a list with an element a row")
            }
            var data = Data()
            for (index, row) in rows.enumerated() { try Self.append(row, tensor.shape[...], of: tensor, to: &data, while: "\(operation), tensor '\(tensor.name)', row \(index)") }
            tensors[tensor.name] = TensorBytes(dtype: tensor.dtype, shape: [rows.count] + tensor.shape, data: data)
        }
        try self.init(tensors, while: operation)
    }

    private static func append(_ value: JSONValue, _ shape: ArraySlice<Int>, of tensor: TensorSchema, to data: inout Data, while operation: String) throws(AccrueError) {
        if let count = shape.first {
            guard let values = value.array, values.count == count else {
                let found = value.array.map { "the list has \($0.count) values" } ?? "there is no list"
                throw AccrueError(.invalidInput, while: operation, "\(found); \(count) values are needed", hint: "a row has the shape \(tensor.shape)")
            }
            for value in values { try append(value, shape.dropFirst(), of: tensor, to: &data, while: operation) }
            return
        }
        let isTaken =
            switch value {
            case .integer(let number): tensor.dtype.append(number, to: &data)
            case .number(let number): tensor.dtype.append(number, to: &data)
            case .bool(let value): tensor.dtype == .bool && tensor.dtype.append(value ? 1 : 0, to: &data)
            case .string(let name): tensor.classes?.firstIndex(of: name).map { tensor.dtype.append($0, to: &data) } ?? false
            case .null: tensor.missing == .nan && tensor.dtype.append(Double.nan, to: &data)
            case .array, .object: false
            }
        guard isTaken else {
            let classes = tensor.classes.map { ", or one of the classes \($0.prefix(8).joined(separator: ", "))\($0.count > 8 ? ", …" : "")" } ?? ""
            throw AccrueError(.invalidInput, while: operation, "\(value.canonical.prefix(80)) is not a number of type \(tensor.dtype.rawValue)", hint: "write a number that fits\(classes)")
        }
    }
}
