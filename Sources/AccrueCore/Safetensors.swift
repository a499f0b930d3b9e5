public import Foundation

/// Named tensors and string metadata in the safetensors format: an 8-byte little-endian header length, a JSON header, the data.
///
/// Encoding is canonical: tensors are laid out by element size (largest first, which keeps all of them aligned), then by name; the JSON has
/// sorted keys and is padded with spaces to a multiple of 8 bytes. The same tensors and metadata give the same bytes.
///
/// Source: https://huggingface.co/docs/safetensors (format 0.3 and later).
public struct Safetensors: Equatable, Sendable {
    public var metadata: [String: String]
    public var tensors: [String: TensorBytes]

    public init(tensors: [String: TensorBytes], metadata: [String: String] = [:]) {
        self.tensors = tensors
        self.metadata = metadata
    }

    /// The same with more tensors and metadata.
    public func adding(_ tensors: [String: TensorBytes], _ metadata: [String: String] = [:]) -> Safetensors {
        var result = self
        result.tensors.merge(tensors) { $1 }
        result.metadata.merge(metadata) { $1 }
        return result
    }

    /// Names in the order in which the data is laid out.
    private var layout: [String] {
        tensors.sorted { ($1.value.dtype.byteCount, $0.key) < ($0.value.dtype.byteCount, $1.key) }.map(\.key)
    }

    /// The canonical bytes.
    public func encode() -> Data {
        var header: [String: JSONValue] = [:]
        if !metadata.isEmpty { header["__metadata__"] = .object(metadata.mapValues { .string($0) }) }
        let names = layout
        var offset = 0
        for name in names {
            guard let tensor = tensors[name] else { continue }
            header[name] = .object([
                "dtype": .string(tensor.dtype.rawValue),
                "shape": .array(tensor.shape.map { .integer($0) }),
                "data_offsets": .array([.integer(offset), .integer(offset + tensor.data.count)]),
            ])
            offset += tensor.data.count
        }
        var json = JSONValue.object(header).canonicalBytes
        json.append(contentsOf: repeatElement(UInt8(ascii: " "), count: (8 - json.count % 8) % 8))
        var bytes = Data(capacity: 8 + json.count + offset)
        withUnsafeBytes(of: UInt64(json.count).littleEndian) { bytes.append(contentsOf: $0) }
        bytes.append(json)
        for name in names { if let tensor = tensors[name] { bytes.append(tensor.data) } }
        return bytes
    }

    /// Reads safetensors bytes; the tensors share `data`'s storage.
    ///
    /// Nothing is believed before it is checked: the header's length against the bytes there are, each tensor's offsets against its dtype and
    /// shape (with overflow), and that the tensors cover the data without gap or overlap.
    ///
    /// - Throws: `corrupt` when the bytes are not well-formed safetensors; `limitExceeded` when the header or the number of tensors is too large.
    public static func decode(_ data: Data) throws(AccrueError) -> Safetensors {
        guard data.count >= 8 else { throw damaged("\(data.count) bytes are too few: the header's length alone takes 8") }
        let claimed = data.withUnsafeBytes { UInt64(littleEndian: $0.loadUnaligned(as: UInt64.self)) }
        guard claimed <= UInt64(Limits.safetensorsHeaderBytesMax) else {
            throw AccrueError(
                .limitExceeded, while: "reading safetensors",
                "the header claims \(claimed) bytes; at most \(Limits.safetensorsHeaderBytesMax) are allowed",
                hint: "check that the file is safetensors and was not cut or overwritten")
        }
        let headerBytes = Int(claimed)
        guard headerBytes <= data.count - 8 else {
            throw damaged("the header claims \(headerBytes) bytes but only \(data.count - 8) follow")
        }
        let body = data.startIndex + 8 + headerBytes
        guard case .object(let header)? = try? JSONValue(parsing: data[(data.startIndex + 8)..<body]) else {
            throw damaged("the header is not a JSON object")
        }
        guard header.count <= Limits.safetensorsTensorsMax else {
            throw AccrueError(
                .limitExceeded, while: "reading safetensors",
                "\(header.count) tensors; at most \(Limits.safetensorsTensorsMax) are allowed")
        }
        var metadata: [String: String] = [:]
        var tensors: [String: TensorBytes] = [:]
        var spans: [(start: Int, end: Int, name: String)] = []
        for (name, entry) in header {
            if name == "__metadata__" {
                guard case .object(let pairs) = entry else { throw damaged("__metadata__ is not an object of strings") }
                for (key, value) in pairs {
                    guard case .string(let text) = value else { throw damaged("__metadata__ '\(key)' is not a string") }
                    metadata[key] = text
                }
                continue
            }
            let (dtype, shape, start, end) = try Self.entry(entry, name: name, available: data.endIndex - body)
            spans.append((start, end, name))
            tensors[name] = TensorBytes(dtype: dtype, shape: shape, data: data[(body + start)..<(body + end)])
        }
        var covered = 0
        for span in spans.sorted(by: { ($0.start, $0.end) < ($1.start, $1.end) }) {
            guard span.start == covered else {
                throw damaged("tensor '\(span.name)' starts at byte \(span.start) of the data; the one before it ends at \(covered)")
            }
            covered = span.end
        }
        guard covered == data.endIndex - body else {
            throw damaged("the tensors take \(covered) bytes but \(data.endIndex - body) follow the header (a cut or overwritten file)")
        }
        return Safetensors(tensors: tensors, metadata: metadata)
    }

    private static func entry(
        _ entry: JSONValue, name: String, available: Int
    ) throws(AccrueError) -> (DType, [Int], Int, Int) {
        guard case .object(let fields) = entry, case .string(let dtypeName)? = fields["dtype"],
            case .array(let shapeValues)? = fields["shape"], case .array(let offsets)? = fields["data_offsets"],
            offsets.count == 2, case .integer(let start) = offsets[0], case .integer(let end) = offsets[1]
        else { throw damaged("tensor '\(name)' lacks dtype, shape or two data_offsets") }
        guard let dtype = DType(rawValue: dtypeName) else {
            throw damaged("tensor '\(name)' has dtype \(dtypeName); known are \(DType.allCases.map(\.rawValue).joined(separator: ", "))")
        }
        guard shapeValues.count <= Limits.tensorDimensionsMax else {
            throw damaged("tensor '\(name)' has \(shapeValues.count) dimensions; at most \(Limits.tensorDimensionsMax) are allowed")
        }
        var shape: [Int] = []
        var bytes = dtype.byteCount
        for value in shapeValues {
            guard case .integer(let size) = value, size >= 0 else { throw damaged("tensor '\(name)' has a dimension that is not a whole number") }
            let (product, overflow) = bytes.multipliedReportingOverflow(by: size)
            guard !overflow else { throw damaged("tensor '\(name)' claims more bytes than a machine can address") }
            bytes = product
            shape.append(size)
        }
        guard start >= 0, start <= end, end <= available, end - start == bytes else {
            throw damaged(
                "tensor '\(name)' of \(dtypeName) \(shape) needs \(bytes) bytes; its offsets are \(start)..<\(end) in \(available) bytes of data")
        }
        return (dtype, shape, start, end)
    }

    private static func damaged(_ problem: String) -> AccrueError {
        AccrueError(.corrupt, while: "reading safetensors", problem, hint: "write the file again with a safetensors library")
    }
}
