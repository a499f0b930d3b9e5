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
        let classes = Self.regression.replacingOccurrences(of: "kind: gaussian", with: "kind: softmax")
            .replacingOccurrences(of: "target, dtype: F32, shape: []", with: "target, dtype: U8, shape: [], classes: [\"0\", '5']")
        let result = try await Self.validate(classes, ["--json"])
        #expect(result.status == 0 && result.output.contains(#""classes":["0","5"]"#), "\(result)")
    }

    static let regression = """
        name: x
        method: IncrementalBayes
        seed: 1
        schema: [{name: a, role: input, dtype: F32, shape: [2]}, {name: y, role: target, dtype: F32, shape: []}]
        settings: {model: {kind: linear}, likelihood: {kind: gaussian}}
        profiles: {quick: {settings: {epochs: 3}}}
        """

    @Test("a wrong command line is one JSON object with --json, and code 64 as without")
    func usage() async throws {
        let json = try await Program.run("accrue", ["pipeline", "validate", "--json"])
        let body = try #require(try JSONSerialization.jsonObject(with: Data(json.output.utf8)) as? [String: [String: Any]])
        #expect(json.status == 64 && body["error"]?["code"] as? String == "invalidInput" && (body["error"]?["problem"] as? String)?.contains("file") == true)
        let text = try await Program.run("accrue", ["pipeline", "validate"])
        #expect(text.status == 64 && text.output.isEmpty && text.errors.contains("file"))
        #expect(try await Program.run("accrue", ["pipeline", "validate", "--help", "--json"]).status == 0)
    }
}
