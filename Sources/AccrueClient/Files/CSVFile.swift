public import AccrueCore
public import Foundation

/// Comma-separated values with a header line (RFC 4180 quoting, no line breaks inside fields); `?` and empty fields are missing values.
public struct CSVFile: Sendable {
    public let path: String
    public let columns: [String]
    public let records: [[String]]
    /// Of each record, from 1; empty lines count.
    private let lineNumbers: [Int]

    /// - Throws: `notFound`, `corrupt` (gzip), `invalidInput` for an unclosed quote or a record with another number of fields, naming the line.
    public init(path: String) throws(AccrueError) {
        try self.init(GzipFile.read(path), path: path)
    }

    public init(_ data: Data, path: String) throws(AccrueError) {
        var lines: [[String]] = [], numbers: [Int] = []
        var number = 0
        // Spreadsheets put a byte order mark before the header.
        let data = data.starts(with: [0xEF, 0xBB, 0xBF]) ? data.dropFirst(3) : data
        for line in data.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false) {
            number += 1
            let bytes = line.last == UInt8(ascii: "\r") ? line.dropLast() : line
            if bytes.isEmpty { continue }
            guard let fields = Self.fields(bytes) else {
                throw AccrueError(.invalidInput, while: "reading \(path), line \(number)", "a quote is not closed", hint: "double the quotes inside quoted fields")
            }
            if let first = lines.first, first.count != fields.count {
                throw AccrueError(
                    .invalidInput, while: "reading \(path), line \(number)", "\(fields.count) fields; the header has \(first.count)",
                    hint: "quote fields that hold commas")
            }
            lines.append(fields)
            numbers.append(number)
        }
        guard let header = lines.first else { throw AccrueError(.invalidInput, while: "reading \(path)", "the file is empty", hint: "the first line names the columns") }
        self.path = path
        columns = header.map { $0.trimmingCharacters(in: .whitespaces) }
        records = Array(lines.dropFirst())
        lineNumbers = Array(numbers.dropFirst())
    }

    /// The schema's tensors: each tensor takes the columns that it lists, or the one column with its name.
    ///
    /// - Parameter needsTargets: whether targets of which no column is there are missing, or left out.
    /// - Throws: `invalidInput` for an unknown column, a field that is not a number or class, a value out of the dtype's range, a missing value
    ///   where the schema allows none.
    public func tensors(_ schema: Schema, needsTargets: Bool = true) throws(AccrueError) -> [String: TensorBytes] {
        var result: [String: TensorBytes] = [:]
        for tensor in schema.tensors {
            let isThere = tensor.role != .target || (tensor.columns ?? [tensor.name]).contains(where: columns.contains)
            if needsTargets || isThere { result[tensor.name] = try self.tensor(tensor) }
        }
        return result
    }

    private func tensor(_ tensor: TensorSchema) throws(AccrueError) -> TensorBytes {
        let names = tensor.columns ?? [tensor.name]
        var indices: [Int] = []
        for name in names {
            guard let index = columns.firstIndex(of: name) else {
                let close = StrictKeys.nearest(to: name, in: columns).map { "did you mean '\($0)'? " } ?? ""
                throw AccrueError(
                    .invalidInput, while: "reading \(path) for tensor '\(tensor.name)'", "there is no column '\(name)'",
                    hint: "\(close)list the tensor's columns in the schema; the file has \(columns.joined(separator: ", "))")
            }
            indices.append(index)
        }
        guard indices.count == tensor.rowElementCount else {
            throw AccrueError(
                .invalidInput, while: "reading \(path) for tensor '\(tensor.name)'",
                "\(indices.count) columns for a row of shape \(tensor.shape)", hint: "list \(tensor.rowElementCount) columns")
        }
        var data = Data(capacity: records.count * indices.count * tensor.dtype.byteCount)
        for (row, record) in records.enumerated() {
            for index in indices {
                func refuse(_ problem: String, _ hint: String) -> AccrueError {
                    AccrueError(.invalidInput, while: "reading \(path), line \(lineNumbers[row]), column '\(columns[index])'", problem, hint: hint)
                }
                let field = record[index]
                var value: Double
                if field.isEmpty || field == "?" {
                    guard tensor.missing == .nan, tensor.dtype.isFloatingPoint else { throw refuse("the value is missing", "fill it in, or leave the row out") }
                    value = .nan
                } else if let position = tensor.classes?.firstIndex(of: field) {
                    value = Double(position)
                } else if let number = Self.number(field) {
                    value = number
                } else {
                    throw refuse("'\(field)' is not a number", tensor.classes == nil ? "write a decimal number, or leave the row out" : "name it among the schema's classes")
                }
                guard tensor.dtype.append(value, to: &data) else { throw refuse("\(field) does not fit \(tensor.dtype.rawValue)", "declare a wider dtype") }
            }
        }
        return TensorBytes(dtype: tensor.dtype, shape: [records.count] + tensor.shape, data: data)
    }

    /// A decimal number, with blanks around it or none.
    private static func number(_ field: String) -> Double? {
        let text = field.trimmingCharacters(in: .whitespaces)
        return text.contains { $0 == "x" || $0 == "X" } ? nil : Double(text)
    }

    private static func fields(_ line: Data) -> [String]? {
        var result: [String] = []
        var field: [UInt8] = []
        var quoted = false, wasQuoted = false
        var index = line.startIndex
        while index < line.endIndex {
            let byte = line[index]
            if quoted {
                if byte == UInt8(ascii: "\"") {
                    if index + 1 < line.endIndex, line[index + 1] == byte {
                        field.append(byte)
                        index += 1
                    } else {
                        quoted = false
                    }
                } else {
                    field.append(byte)
                }
            } else if byte == UInt8(ascii: "\""), field.isEmpty, !wasQuoted {
                quoted = true
                wasQuoted = true
            } else if byte == UInt8(ascii: ",") {
                result.append(String(decoding: field, as: UTF8.self))
                field.removeAll(keepingCapacity: true)
                wasQuoted = false
            } else {
                field.append(byte)
            }
            index += 1
        }
        guard !quoted else { return nil }
        result.append(String(decoding: field, as: UTF8.self))
        return result
    }
}
