public import AccrueCore
import Foundation

/// The rows of a declared data source, loaded and checked against a schema.
public struct RowSource: Sendable {
    public let rows: Rows
    /// Consecutive ranges of `rows`, one a chunk.
    public let chunks: [Range<Int>]

    /// - Parameter resolve: turns a path of the pipeline file into one that can be opened.
    /// - Throws: what reading the files throws, and `invalidInput` when they do not fit the schema or give no rows.
    public init(_ source: DataSource, schema: Schema, resolve: (String) throws(AccrueError) -> String) throws(AccrueError) {
        var tensors: [String: TensorBytes] = [:]
        var place = "the inline rows"
        switch source.origin {
        case .inline(let values):
            for tensor in schema.tensors {
                guard let value = values[tensor.name] else { continue }
                tensors[tensor.name] = try Self.inline(value, tensor)
            }
        case .tensors(let files):
            for (name, paths) in files.sorted(by: { $0.key < $1.key }) { tensors[name] = try Self.joined(paths, tensor: name, resolve: resolve) }
            place = files.values.joined().sorted().joined(separator: ", ")
        case .csv(let file):
            tensors = try CSVFile(path: try resolve(file)).tensors(schema)
            place = file
        }
        var all = try Rows(tensors, schema: schema, while: "checking \(place)")
        if let split = source.split {
            let lines = String(decoding: try GzipFile.read(try resolve(split.file)), as: UTF8.self).split(separator: "\n")
            guard split.index >= 0, split.index < lines.count else {
                throw AccrueError(.invalidInput, while: "reading \(split.file)", "there is no split \(split.index); the file has \(lines.count)")
            }
            let test = Set(lines[split.index].split(separator: " ").compactMap { Int($0) })
            let wanted = (0..<all.count).filter { test.contains($0) == split.test }
            all = all.rows(at: wanted)
        }
        rows = all
        chunks = source.chunkRanges(available: all.count)
        guard !chunks.isEmpty else {
            throw AccrueError(
                .invalidInput, while: "cutting \(place) into chunks", "no row is left: firstRow is \(source.firstRow) and there are \(all.count) rows")
        }
    }

    private static func joined(_ paths: [String], tensor name: String, resolve: (String) throws(AccrueError) -> String) throws(AccrueError) -> TensorBytes {
        var parts: [TensorBytes] = []
        for path in paths {
            let part = try TensorFile.read(try resolve(path), tensor: name)
            if let first = parts.first, part.dtype != first.dtype || part.shape.dropFirst() != first.shape.dropFirst() {
                throw AccrueError(
                    .invalidInput, while: "reading \(path)", "it has \(part.dtype.rawValue) \(part.shape); \(paths[0]) has \(first.dtype.rawValue) \(first.shape)",
                    hint: "files of one tensor differ in their rows alone")
            }
            parts.append(part)
        }
        guard let all = parts.count == 1 ? parts[0] : TensorBytes.joined(parts) else {
            throw AccrueError(.invalidInput, while: "reading the rows of '\(name)'", "there are no files", hint: "name at least one")
        }
        return all
    }

    private static func inline(_ value: JSONValue, _ tensor: TensorSchema) throws(AccrueError) -> TensorBytes {
        let values = Expectation.flatten(value)
        let rows = values.count / max(1, tensor.rowElementCount)
        let shape = [rows] + tensor.shape
        guard rows * tensor.rowElementCount == values.count else {
            throw AccrueError(.invalidInput, while: "reading the inline rows of '\(tensor.name)'", "\(values.count) numbers do not make rows of shape \(tensor.shape)")
        }
        switch tensor.dtype {
        case .f64: return TensorBytes(values, shape: shape)
        case .f32: return TensorBytes(values.map(Float.init), shape: shape)
        case .i64 where values.allSatisfy({ Int64(exactly: $0) != nil }): return TensorBytes(values.compactMap(Int64.init(exactly:)), shape: shape)
        case .u8 where values.allSatisfy({ UInt8(exactly: $0) != nil }): return TensorBytes(values.compactMap(UInt8.init(exactly:)), shape: shape)
        default:
            throw AccrueError(
                .invalidInput, while: "reading the inline rows of '\(tensor.name)'", "the numbers do not fit dtype \(tensor.dtype.rawValue)",
                hint: "use F64, F32, I64 or U8")
        }
    }
}
