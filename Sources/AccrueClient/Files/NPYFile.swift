public import AccrueCore
public import Foundation

/// NumPy's NPY format, versions 1 to 3: C order, little-endian.
public enum NPYFile {
    public static let magic: [UInt8] = [0x93, 0x4E, 0x55, 0x4D, 0x50, 0x59]

    /// - Throws: `corrupt` for damaged bytes, `invalidInput` for Fortran order, big-endian or object arrays.
    public static func decode(_ data: Data, path: String) throws(AccrueError) -> TensorBytes {
        func damaged(_ problem: String) -> AccrueError { AccrueError(.corrupt, while: "reading \(path)", problem, hint: "save it again with numpy.save") }
        func refuse(_ problem: String, _ hint: String) -> AccrueError { AccrueError(.invalidInput, while: "reading \(path)", problem, hint: hint) }
        guard data.count >= 12, data.starts(with: magic) else { throw damaged("not an NPY file") }
        let version = data[data.startIndex + 6]
        let lengthBytes = version == 1 ? 2 : 4
        let headerBytes = data.withUnsafeBytes { bytes in
            version == 1
                ? Int(UInt16(littleEndian: bytes.loadUnaligned(fromByteOffset: 8, as: UInt16.self)))
                : Int(UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: 8, as: UInt32.self)))
        }
        let headerStart = data.startIndex + 8 + lengthBytes
        guard headerBytes <= data.endIndex - headerStart else { throw damaged("the header claims \(headerBytes) bytes; the file has fewer") }
        let header = String(decoding: data[headerStart..<headerStart + headerBytes], as: UTF8.self)
        guard let descr = header.firstMatch(of: /'descr':\s*'([^']*)'/)?.output.1, let order = header.firstMatch(of: /'fortran_order':\s*(True|False)/)?.output.1,
            let sizes = header.firstMatch(of: /'shape':\s*\(([0-9, ]*)\)/)?.output.1
        else { throw damaged("the header lacks descr, fortran_order or shape") }
        guard order == "False" else { throw refuse("the array is in Fortran order", "save numpy.ascontiguousarray(array)") }
        let dtypes: [Substring: DType] = [
            "<f8": .f64, "<f4": .f32, "<f2": .f16, "<i8": .i64, "<i4": .i32, "<i2": .i16, "|i1": .i8, "|u1": .u8, "|b1": .bool,
        ]
        guard let dtype = dtypes[descr] else {
            throw refuse("dtype '\(descr)' is not one of \(dtypes.keys.sorted().joined(separator: ", "))", "convert it with array.astype")
        }
        var shape: [Int] = []
        var needed = dtype.byteCount
        for size in sizes.split(separator: ",").map({ $0.trimmingCharacters(in: .whitespaces) }) where !size.isEmpty {
            guard let value = Int(size) else { throw damaged("the shape (\(sizes)) is not made of whole numbers") }
            let (product, overflow) = needed.multipliedReportingOverflow(by: value)
            guard !overflow else { throw damaged("the header claims more bytes than a machine can address") }
            needed = product
            shape.append(value)
        }
        let body = headerStart + headerBytes
        guard shape.count <= Limits.tensorDimensionsMax, data.endIndex - body == needed else {
            throw damaged("shape \(shape) needs \(needed) bytes; \(data.endIndex - body) follow the header")
        }
        return TensorBytes(dtype: dtype, shape: shape, data: data[body..<data.endIndex])
    }
}
