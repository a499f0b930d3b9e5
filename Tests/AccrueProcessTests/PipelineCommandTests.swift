import Foundation
import Testing

@Suite("accrue pipeline validate")
struct PipelineCommandTests {
    static let pipelines = URL(fileURLWithPath: #filePath).deletingLastPathComponent().appendingPathComponent("../../pipelines").standardizedFileURL

    static func validate(_ text: String, _ options: [String] = []) async throws -> Program.Result {
        let file = FileManager.default.temporaryDirectory.appendingPathComponent("accrue-\(UUID().uuidString).yaml")
        try Data(text.utf8).write(to: file)
        defer { try? FileManager.default.removeItem(at: file) }
        return try await Program.run("accrue", ["pipeline", "validate", file.path] + options)
    }

    @Test("every pipeline file of the project is well formed")
    func allFiles() async throws {
        let files = try FileManager.default.contentsOfDirectory(atPath: Self.pipelines.path).filter { $0.hasSuffix(".yaml") }
        #expect(!files.isEmpty)
        for file in files {
            let result = try await Program.run("accrue", ["pipeline", "validate", Self.pipelines.appendingPathComponent(file).path])
            #expect(result.status == 0, "\(file): \(result.errors)")
        }
    }

    @Test("an unknown key ends with the exit code of invalid input and names the nearest key")
    func unknownKey() async throws {
        let result = try await Self.validate("name: x\nmethod: A\nseed: 1\nswepes: 2\nschema: []\n")
        #expect(result.status == 3 && result.errors.contains("did you mean 'sweeps'?") && result.output.isEmpty)
    }

    @Test("with --json an error is one JSON object on standard output")
    func jsonError() async throws {
        let result = try await Self.validate("name: [\n", ["--json"])
        let body = try #require(try JSONSerialization.jsonObject(with: Data(result.output.utf8)) as? [String: [String: Any]])
        #expect(result.status == 3 && body["error"]?["code"] as? String == "invalidInput")
    }

    @Test("a key that stands twice, an alias and a missing file are refused")
    func otherMistakes() async throws {
        #expect(try await Self.validate("name: x\nname: y\n").status == 3)
        #expect(try await Self.validate("name: &a x\nmethod: *a\n").status == 3)
        #expect(try await Program.run("accrue", ["pipeline", "validate", "/nonexistent.yaml"]).status == 4)
    }

    @Test("quoted numbers stay strings")
    func quoting() async throws {
        let yaml = "name: x\nmethod: \"5\"\nseed: 1\nschema:\n  - {name: a, role: input, dtype: U8, shape: [1]}\n"
        let result = try await Self.validate(yaml, ["--json"])
        #expect(result.status == 0 && result.output.contains("\"method\":\"5\""))
    }
}
