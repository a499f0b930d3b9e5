import AccrueCore
import Foundation
import Testing

@Suite("Safetensors bytes")
struct SafetensorsTests {
    let file = Safetensors(
        tensors: [
            "weights": TensorBytes([1.5, -2, 0.25] as [Double], shape: [3]), "labels": TensorBytes([1, 2, 255] as [UInt8], shape: [3]),
            "empty": TensorBytes([] as [Float], shape: [0, 4]),
        ], metadata: ["method": "toy", "quote": "a \"b\" \\ \n"])

    @Test("what is encoded is decoded")
    func roundTrip() throws {
        #expect(try Safetensors.decode(file.encode()) == file)
    }

    @Test("the same tensors give the same bytes, and every tensor is aligned to its element")
    func canonical() throws {
        let bytes = file.encode()
        #expect(bytes == Safetensors(tensors: file.tensors, metadata: file.metadata).encode())
        let header = bytes.withUnsafeBytes { Int($0.loadUnaligned(as: UInt64.self)) }
        #expect((8 + header) % 8 == 0)
    }

    @Test("cutting the bytes anywhere is refused")
    func truncation() {
        let bytes = file.encode()
        for length in 0..<bytes.count { #expect(throws: AccrueError.self) { try Safetensors.decode(bytes.prefix(length)) } }
    }

    static func bytes(header: String, data: Int = 0) -> Data {
        var bytes = withUnsafeBytes(of: UInt64(header.utf8.count).littleEndian) { Data($0) }
        bytes.append(contentsOf: header.utf8)
        bytes.append(Data(count: data))
        return bytes
    }

    @Test("a header that claims 2^60 bytes is refused before anything is allocated")
    func hugeHeader() {
        var bytes = withUnsafeBytes(of: UInt64(1) << 60) { Data($0) }
        bytes.append(contentsOf: "{}".utf8)
        #expect { try Safetensors.decode(bytes) } throws: { ($0 as? AccrueError)?.code == .limitExceeded }
    }

    @Test(
        "hostile headers are refused as corrupt",
        arguments: [
            "[]", "{", "{\"a\":1}", "{\"a\":{\"dtype\":\"F32\",\"shape\":[1]}}",
            "{\"a\":{\"dtype\":\"X9\",\"shape\":[1],\"data_offsets\":[0,4]}}",
            "{\"a\":{\"dtype\":\"F32\",\"shape\":[-1],\"data_offsets\":[0,4]}}",
            "{\"a\":{\"dtype\":\"F32\",\"shape\":[4611686018427387904,4],\"data_offsets\":[0,4]}}",
            "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}",
            "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}",
            "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,4]}}",
            "{\"a\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,1,1,1,1,1],\"data_offsets\":[0,4]}}",
            "{\"__metadata__\":{\"a\":1}}",
        ])
    func hostile(header: String) {
        #expect { try Safetensors.decode(Self.bytes(header: header, data: 4)) } throws: { ($0 as? AccrueError)?.code == .corrupt }
    }

    @Test("random bytes never decode and never crash")
    func randomBytes() {
        var key = RandomKey(seed: 7)
        for length in 0..<500 {
            var bytes = Data()
            while bytes.count < length {
                key = key.folding(length)
                withUnsafeBytes(of: key.low) { bytes.append(contentsOf: $0) }
            }
            #expect(throws: AccrueError.self) { try Safetensors.decode(bytes) }
        }
    }
}
