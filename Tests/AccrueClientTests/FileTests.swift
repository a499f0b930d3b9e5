import AccrueClient
import AccrueCore
import Foundation
import Testing

@Suite("Files that producers push")
struct FileTests {
    @Test("IDX data is read with its shape, big-endian values turned")
    func idx() throws {
        let bytes = Data([0, 0, 0x0C, 1, 0, 0, 0, 2, 0, 0, 1, 0, 0xFF, 0xFF, 0xFF, 0xFE])
        let tensor = try IDXFile.decode(bytes, path: "test")
        #expect(tensor.shape == [2] && tensor.doubles() == [256, -2])
    }

    @Test("cut or overlong IDX data is refused as corrupt")
    func badIDX() {
        let bytes = Data([0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 2, 1, 2, 3, 4])
        #expect(throws: Never.self) { try IDXFile.decode(bytes, path: "test") }
        for length in 0..<bytes.count { #expect(throws: AccrueError.self) { try IDXFile.decode(bytes.prefix(length), path: "test") } }
        #expect(throws: AccrueError.self) { try IDXFile.decode(bytes + [5], path: "test") }
        #expect(throws: AccrueError.self) { try IDXFile.decode(Data([0, 0, 14, 3] + [UInt8](repeating: 255, count: 12)), path: "test") }
    }

    @Test("NPY headers of all versions are read, and Fortran order is refused")
    func npy() throws {
        func file(_ header: String, version: UInt8, data: [UInt8]) -> Data {
            var bytes = Data(NPYFile.magic + [version, 0])
            if version == 1 { bytes += withUnsafeBytes(of: UInt16(header.utf8.count)) { Data($0) } }
            else { bytes += withUnsafeBytes(of: UInt32(header.utf8.count)) { Data($0) } }
            return bytes + Data(header.utf8) + Data(data)
        }
        for version: UInt8 in 1...3 {
            let tensor = try NPYFile.decode(
                file("{'descr': '|u1', 'fortran_order': False, 'shape': (2, 3), }\n", version: version, data: [1, 2, 3, 4, 5, 6]), path: "test")
            #expect(tensor.shape == [2, 3] && tensor.doubles() == [1, 2, 3, 4, 5, 6])
        }
        let fortran = file("{'descr': '|u1', 'fortran_order': True, 'shape': (1,), }\n", version: 1, data: [1])
        #expect { try NPYFile.decode(fortran, path: "test") } throws: { ($0 as? AccrueError)?.code == .invalidInput }
    }

    static let schema = Schema([
        TensorSchema("inputs", role: .input, dtype: .f32, shape: [2], missing: .nan, columns: ["a", "b"]),
        TensorSchema("class", role: .target, dtype: .u8, shape: [], classes: ["no", "yes, please"]),
    ])

    @Test("CSV columns are mapped by the schema, with quotes, missing values and class names")
    func csv() throws {
        let file = try CSVFile(Data("b,class,a\n1,\"yes, please\",2\r\n?,no,-0.5\n".utf8), path: "test")
        let tensors = try file.tensors(Self.schema)
        #expect(tensors["class"]?.doubles() == [1, 0])
        let inputs = try #require(tensors["inputs"]?.doubles())
        #expect(inputs[0] == 2 && inputs[1] == 1 && inputs[2] == -0.5 && inputs[3].isNaN)
    }

    @Test("a byte order mark, blanks around names and numbers, and empty lines do no harm; a number is a decimal one")
    func spreadsheets() throws {
        let file = try CSVFile(Data("\u{FEFF}a, b,class\r\n\r\n1, 2,no\r\n".utf8), path: "test")
        #expect(try file.tensors(Self.schema)["inputs"]?.doubles() == [1, 2])
        #expect { try CSVFile(Data("a,b,class\n\n1,0x10,no\n".utf8), path: "test").tensors(Self.schema) } throws: { "\($0)".contains("line 3, column 'b'") }
    }

    @Test("a bad CSV field is refused with its line and column")
    func badCSV() throws {
        for text in ["a,b,class\n1,x,no\n", "a,b,class\n1,2,maybe\n", "a,b,class\n1,2\n", "a,b,class\n1,\"2,no\n", "a,c,class\n1,2,no\n", ""] {
            #expect { try CSVFile(Data(text.utf8), path: "test").tensors(Self.schema) } throws: { ($0 as? AccrueError)?.code == .invalidInput }
        }
        #expect { try CSVFile(Data("a,b,class\n1,x,no\n".utf8), path: "test").tensors(Self.schema) } throws: {
            ($0 as? AccrueError)?.operation.contains("line 2, column 'b'") == true
        }
    }

    @Test("Fashion-MNIST unpacks from the Debian package", .enabled(if: FileManager.default.fileExists(atPath: fashionMNIST)))
    func fashion() throws {
        let images = try TensorFile.read(fashionMNIST, tensor: "inputs")
        #expect(images.shape == [10000, 28, 28] && images.dtype == .u8)
    }

    @Test("a missing file and a cut gzip file are named")
    func badFiles() throws {
        #expect { try GzipFile.read("/nonexistent/file") } throws: { ($0 as? AccrueError)?.code == .notFound }
        let path = FileManager.default.temporaryDirectory.appendingPathComponent("accrue-\(UUID().uuidString).gz").path
        defer { try? FileManager.default.removeItem(atPath: path) }
        // gzip of "accrue" without its last bytes.
        try Data([0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 0, 3, 0x4B, 0x4C, 0x4E]).write(to: URL(fileURLWithPath: path))
        #expect { try GzipFile.read(path) } throws: { ($0 as? AccrueError)?.code == .corrupt }
    }
}

private let fashionMNIST = "/usr/share/datasets/fashion-mnist/t10k-images-idx3-ubyte.gz"
