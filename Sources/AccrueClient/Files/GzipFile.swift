public import AccrueCore
import CZlib
public import Foundation

/// Whole files, unpacked when they are gzip.
public enum GzipFile {
    /// The bytes of a file; gzip files (by their first two bytes) are unpacked, others are mapped.
    ///
    /// - Throws: `notFound` when there is no such file, `corrupt` when gzip data is damaged or cut, `limitExceeded` when it unpacks to more than
    ///   `bytesMax`.
    public static func read(_ path: String, bytesMax: Int = 8 << 30) throws(AccrueError) -> Data {
        let bytes: Data
        do { bytes = try Data(contentsOf: URL(fileURLWithPath: path), options: .alwaysMapped) } catch {
            throw AccrueError(
                .notFound, while: "reading \(path)", "the file cannot be read",
                hint: "check the path and its permissions")
        }
        guard bytes.count > 2, bytes[bytes.startIndex] == 0x1F, bytes[bytes.startIndex + 1] == 0x8B else { return bytes }
        return try unpack(bytes, path: path, bytesMax: bytesMax)
    }

    private static func unpack(_ packed: Data, path: String, bytesMax: Int) throws(AccrueError) -> Data {
        var stream = z_stream()
        // 15 window bits, +16: a gzip header is expected.
        guard inflateInit2_(&stream, 31, ZLIB_VERSION, Int32(MemoryLayout<z_stream>.size)) == Z_OK else {
            throw AccrueError(.unavailable, while: "unpacking \(path)", "zlib could not start")
        }
        defer { inflateEnd(&stream) }
        var unpacked = Data()
        var buffer = [UInt8](repeating: 0, count: 1 << 20)
        let bufferBytes = buffer.count
        var status = Z_OK
        packed.withUnsafeBytes { (input: UnsafeRawBufferPointer) in
            guard let base = input.bindMemory(to: UInt8.self).baseAddress else { return }
            var offset = 0
            while status == Z_OK, unpacked.count <= bytesMax {
                if stream.avail_in == 0 {
                    let count = min(input.count - offset, 1 << 30)
                    guard count > 0 else { break }
                    stream.next_in = UnsafeMutablePointer(mutating: base + offset)
                    stream.avail_in = uInt(count)
                    offset += count
                }
                buffer.withUnsafeMutableBufferPointer { output in
                    stream.next_out = output.baseAddress
                    stream.avail_out = uInt(bufferBytes)
                    status = inflate(&stream, Z_NO_FLUSH)
                    unpacked.append(contentsOf: output[0..<(bufferBytes - Int(stream.avail_out))])
                }
                // A gzip file may hold several members, one after the other.
                if status == Z_STREAM_END, stream.avail_in > 0 || offset < input.count { status = inflateReset(&stream) }
            }
        }
        guard unpacked.count <= bytesMax else {
            throw AccrueError(.limitExceeded, while: "unpacking \(path)", "it unpacks to more than \(bytesMax) bytes", hint: "split the file")
        }
        guard status == Z_STREAM_END else {
            throw AccrueError(.corrupt, while: "unpacking \(path)", "the gzip data is damaged or cut after \(unpacked.count) bytes", hint: "fetch the file again")
        }
        return unpacked
    }
}
