import AccrueCore
import AccrueTesting
import Foundation
import Testing

@Suite("Values that write their JSON themselves")
struct DirectlyCodedTests {
    static let hash = ContentHash(of: Data("rows".utf8))
    static let chunks = [
        LogEntry.Chunk(identity: hash, key: nil, rows: 1, bytes: 0), LogEntry.Chunk(identity: hash, key: "k/0 \"ü\"\n", rows: 1_000_000, bytes: .max),
    ]

    @Test("say what their Codable form says, and read it")
    func agree() throws {
        for chunk in Self.chunks {
            #expect(try DirectCoding.agrees(chunk))
            #expect(try DirectCoding.agrees(LogEntry.Kind.chunk(chunk)))
        }
        #expect(try DirectCoding.agrees(Self.hash))
        // Kept in databases and on disks: these characters never change.
        let text = #"{"chunk":{"_0":{"bytes":5,"identity":"\#(Self.hash.hex)","key":"a","rows":2}}}"#
        let kind = LogEntry.Kind.chunk(.init(identity: Self.hash, key: "a", rows: 2, bytes: 5))
        #expect(try JSONValue(encoding: kind).canonical == text)
        #expect(try JSONValue(parsing: Data(text.utf8)).decode(LogEntry.Kind.self, while: "testing") == kind)
    }

    @Test("where a value may be missing it is read all the same")
    func optional() throws {
        let chunk = Self.chunks[0], value = try JSONValue(encoding: chunk)
        #expect(try value.decode(LogEntry.Chunk?.self, while: "testing") == chunk)
        #expect(try JSONValue.string("x").decode(String?.self, while: "testing") == "x")
        #expect(try JSONValue.null.decode(LogEntry.Chunk?.self, while: "testing") == nil)
    }

    @Test("entries that are no chunks are written and read as before", arguments: [
        LogEntry.Kind.cut, .setAside(positions: [1, 2], reason: "poison"), .import(.init(file: hash, key: "x")), .settings(schema: Schema([])),
    ])
    func others(kind: LogEntry.Kind) throws {
        #expect(kind.json == nil)
        #expect(try JSONValue(encoding: kind).decode(LogEntry.Kind.self, while: "testing") == kind)
    }

    @Test("what is wrong with a value is said with the field's name", arguments: [
        (#"{"identity":"00","rows":1,"bytes":2}"#, "identity"), (#"{"rows":1,"bytes":2}"#, "identity"),
        (#"{"identity":"\#(hash.hex)","rows":1.5,"bytes":2}"#, "rows"), (#"{"identity":"\#(hash.hex)","rows":1}"#, "bytes"),
        (#"{"identity":"\#(hash.hex)","rows":1,"bytes":2,"key":7}"#, "key"),
    ])
    func wrong(text: String, field: String) throws {
        let value = try JSONValue(parsing: Data(text.utf8))
        let error = #expect(throws: AccrueError.self) { try value.decode(LogEntry.Chunk.self, while: "testing") }
        #expect(error?.code == .invalidInput && error?.problem.contains("'\(field)'") == true, "\(error?.problem ?? "")")
    }

    @Test("a hash is its 64 digits, and hashes are ordered as these are")
    func hashes() {
        let hashes = (0..<200).map { ContentHash(of: Data("\($0)".utf8)) }
        #expect(hashes.allSatisfy { ContentHash(hex: $0.hex) == $0 && $0.hex.utf8.count == 64 })
        #expect(hashes.sorted().map(\.hex) == hashes.map(\.hex).sorted())
        // SHA-256 of nothing: FIPS 180-4.
        #expect(ContentHash(of: Data()).hex == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
        let digits = hashes[0].hex
        for bad in ["", String(digits.dropLast()), digits + "0", digits.uppercased(), String(digits.dropLast()) + "g", "ü" + digits.dropLast(2)] where bad != digits {
            #expect(ContentHash(hex: bad) == nil, "\(bad)")
        }
    }
}
