public import AccrueCore
public import Foundation

/// The IDX format of MNIST and its kin: two zero bytes, a type, the number of dimensions, big-endian sizes, big-endian data.
public enum IDXFile {
    /// - Throws: `corrupt` when the bytes are not IDX or their number does not match the header.
    public static func decode(_ data: Data, path: String) throws(AccrueError) -> TensorBytes {
        func damaged(_ problem: String) -> AccrueError {
            AccrueError(.corrupt, while: "reading \(path)", problem, hint: "an IDX file starts with 0, 0, a type and a number of dimensions")
        }
        let bytes = data.startIndex
        guard data.count >= 4, data[bytes] == 0, data[bytes + 1] == 0 else { throw damaged("not an IDX file") }
        let dtype: DType
        switch data[bytes + 2] {
        case 0x08: dtype = .u8
        case 0x09: dtype = .i8
        case 0x0B: dtype = .i16
        case 0x0C: dtype = .i32
        case 0x0D: dtype = .f32
        case 0x0E: dtype = .f64
        default: throw damaged("unknown IDX type \(data[bytes + 2])")
        }
        let dimensions = Int(data[bytes + 3])
        guard dimensions <= Limits.tensorDimensionsMax, data.count >= 4 + 4 * dimensions else { throw damaged("\(dimensions) dimensions in \(data.count) bytes") }
        var shape: [Int] = []
        var needed = dtype.byteCount
        for index in 0..<dimensions {
            let size = data.withUnsafeBytes { Int(UInt32(bigEndian: $0.loadUnaligned(fromByteOffset: 4 + 4 * index, as: UInt32.self))) }
            let (product, overflow) = needed.multipliedReportingOverflow(by: size)
            guard !overflow else { throw damaged("the header claims more bytes than a machine can address") }
            needed = product
            shape.append(size)
        }
        let body = bytes + 4 + 4 * dimensions
        guard data.endIndex - body == needed else { throw damaged("shape \(shape) needs \(needed) bytes; \(data.endIndex - body) follow the header") }
        var values = data[body..<data.endIndex]
        if dtype.byteCount > 1 { values = swapped(values, width: dtype.byteCount) }
        return TensorBytes(dtype: dtype, shape: shape, data: values)
    }

    private static func swapped(_ data: Data, width: Int) -> Data {
        var result = Data(data)
        result.withUnsafeMutableBytes { bytes in
            for start in stride(from: 0, to: bytes.count, by: width) {
                for offset in 0..<width / 2 { bytes.swapAt(start + offset, start + width - 1 - offset) }
            }
        }
        return result
    }
}
