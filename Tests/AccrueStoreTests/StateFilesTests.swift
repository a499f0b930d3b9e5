import AccrueCore
import AccrueStore
import Foundation
import Testing

@Suite("States are files named by their content")
struct StateFilesTests {
    static func directory() -> String { FileManager.default.temporaryDirectory.appendingPathComponent("accrue-\(UUID().uuidString)").path }

    @Test("what is put is read back, and putting it again changes nothing")
    func roundTrip() throws {
        let path = Self.directory()
        defer { try? FileManager.default.removeItem(atPath: path) }
        let files = try StateFiles(directory: path)
        let bytes = Data((0..<100_000).map { UInt8(truncatingIfNeeded: $0) })
        let hash = try files.put(bytes)
        #expect(try files.put(bytes) == hash && files.read(hash) == bytes)
        #expect(try FileManager.default.contentsOfDirectory(atPath: path) == ["\(hash.hex).safetensors"])
    }

    @Test("damaged and missing states are refused as corrupt")
    func damage() throws {
        let path = Self.directory()
        defer { try? FileManager.default.removeItem(atPath: path) }
        let files = try StateFiles(directory: path)
        let hash = try files.put(Data("state".utf8))
        _ = try files.put(Data("another".utf8))
        #expect(StateFiles.check(newest: 9, in: path).map { $0.read == 2 && $0.damaged.isEmpty } == true)
        #expect(StateFiles.check(newest: 1, in: path)?.read == 1 && StateFiles.check(newest: 1, in: "\(path)/nowhere") == nil)
        try Data("stale".utf8).write(to: URL(fileURLWithPath: "\(path)/\(hash.hex).safetensors"))
        #expect { try files.read(hash) } throws: { ($0 as? AccrueError)?.code == .corrupt }
        #expect(StateFiles.check(newest: 9, in: path)?.damaged == ["\(path)/\(hash.hex).safetensors"])
        #expect { try files.read(ContentHash(of: Data())) } throws: { ($0 as? AccrueError)?.code == .corrupt }
    }

    @Test("opening deletes what a crash left aside, and states that no version needs go on request")
    func cleaning() throws {
        let path = Self.directory()
        defer { try? FileManager.default.removeItem(atPath: path) }
        let files = try StateFiles(directory: path)
        let kept = try files.put(Data("kept".utf8))
        _ = try files.put(Data("unneeded".utf8))
        try Data("half".utf8).write(to: URL(fileURLWithPath: "\(path)/x.1.aside"))
        let reopened = try StateFiles(directory: path)
        #expect(try reopened.deleteAll(except: [kept]) == 1)
        #expect(try FileManager.default.contentsOfDirectory(atPath: path) == ["\(kept.hex).safetensors"])
    }

    @Test("a directory that cannot be written is refused with a next step")
    func unwritable() {
        #expect { try StateFiles(directory: "/proc/accrue") } throws: {
            let error = $0 as? AccrueError
            return error?.code == .unavailable && error?.hint.isEmpty == false
        }
    }
}
