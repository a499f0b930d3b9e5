import AccrueCore
import AccrueTesting
import Foundation
import Testing

@Suite("Imports and appended classes over the command line", .serialized, .timeLimit(.minutes(10)))
struct ImportTests {
    /// The weights that a run of the spirals ends with, as a bare network in a file.
    private static func network(_ rows: SpiralRows) async throws -> String {
        let learned = try Safetensors.decode(try await KillTests.quiet(rows))
        var tensors: [String: TensorBytes] = [:]
        for (name, tensor) in learned.tensors where name.hasPrefix("mean.") { tensors[String(name.dropFirst(5))] = tensor }
        let path = rows.path("network.safetensors")
        try Safetensors(tensors: tensors).encode().write(to: URL(fileURLWithPath: path))
        return path
    }

    @Test("learning goes on from an imported network, byte for byte as in one process, though the daemon is killed around it")
    func network() async throws {
        let rows = try SpiralRows()
        let network = try await Self.network(rows)
        let run = try await Program.run("accrue", ["run", rows.pipeline, "--start", network, "--out", rows.path("started.safetensors")])
        #expect(run.status == 0, "\(run.errors)")

        let daemon = try await Daemon(workers: 2)
        try await daemon.accrue("pipeline", "apply", rows.pipeline)
        let first = try #require(try await daemon.json("posterior", "import", "spirals", "--in", network).first)
        #expect(first["version"] == 1 && first["position"] == 1 && first["duplicate"] == false)
        try await daemon.kill()
        try await daemon.restart()
        let again = try #require(try await daemon.json("posterior", "import", "spirals", "--in", network).first)
        #expect(again["version"] == 1 && again["position"] == 1 && again["duplicate"] == true)
        let push = try rows.pushing(daemon)
        try await daemon.kill()
        try await daemon.restart()
        #expect(try await push.status() == 0)
        #expect(try await KillTests.exported(rows, daemon) == Data(contentsOf: URL(fileURLWithPath: rows.path("started.safetensors"))))
    }

    @Test("a file that does not fit is refused with the tensor's name and shapes, and leaves no trace")
    func refused() async throws {
        let rows = try SpiralRows()
        let daemon = try await Daemon(workers: 1)
        try await daemon.accrue("pipeline", "apply", rows.pipeline)
        let path = rows.path("wrong.safetensors")
        try Safetensors(tensors: ["dense1.bias": TensorBytes([Float](repeating: 0, count: 3), shape: [3])]).encode().write(to: URL(fileURLWithPath: path))
        let wrong = try await daemon.accrue("posterior", "import", "spirals", "--in", path)
        #expect(wrong.status == AccrueError.Code.invalidInput.exitCode && wrong.errors.contains("tensor 'dense1.bias' has shape [3]; the model needs [64]"))
        try Data("no tensors".utf8).write(to: URL(fileURLWithPath: path))
        #expect(try await daemon.accrue("posterior", "import", "spirals", "--in", path).status != 0)
        let missing = try await daemon.accrue("posterior", "import", "spirals", "--in", rows.path("nowhere"))
        #expect(missing.status == AccrueError.Code.notFound.exitCode && missing.errors.contains("nowhere"))
        #expect(try await daemon.json("posterior", "list", "spirals").map { $0["version"] } == [0])
    }

    @Test("a pipeline applied with a class more has it from the next version on; other changes are refused by name")
    func classes() async throws {
        let rows = try SpiralRows()
        let daemon = try await Daemon(workers: 1)
        try await daemon.accrue("pipeline", "apply", rows.pipeline)
        let inputs = "inputs=\(rows.path("inputs.safetensors"))"
        let text = try String(contentsOfFile: rows.pipeline, encoding: .utf8)
        func file(_ old: String, _ new: String) throws -> String {
            let path = rows.path("changed.yaml")
            try Data(text.replacingOccurrences(of: old, with: new).utf8).write(to: URL(fileURLWithPath: path))
            return path
        }
        let grown = try file("[left, right]", "[left, right, middle]")
        let applied = try #require(try await daemon.json("pipeline", "apply", grown).first)
        #expect(applied["position"] == 1)
        // Again, it changes nothing.
        #expect(try #require(try await daemon.json("pipeline", "apply", grown).first)["position"] == nil)
        // What is pushed now may hold the new class, and its version has three.
        let targets = rows.path("targets.safetensors")
        try Safetensors(tensors: ["targets": TensorBytes((0..<SpiralRows.rows).map { UInt8($0 % 3) }, shape: [SpiralRows.rows])]).encode()
            .write(to: URL(fileURLWithPath: targets))
        let pushed = try await daemon.json(
            "push", "spirals", "--tensor", inputs, "--tensor", "targets=\(targets)", "--rows", "100", "--rows-per-chunk", "50", "--wait")
        #expect(pushed.map { $0["position"] } == [2, 3])
        let answer = try await daemon.accrue("query", "spirals", "predict", "--tensor", inputs, "--rows", "1")
        #expect(answer.status == 0 && answer.output.contains("middle") && answer.output.contains("version 2"))
        let settings = try await daemon.accrue("pipeline", "apply", try file("epochs: 60", "epochs: 61"))
        #expect(settings.status == AccrueError.Code.conflict.exitCode && settings.errors.contains("settings"))
        let fewer = try await daemon.accrue("pipeline", "apply", try file("[left, right]", "[right, left]"))
        #expect(fewer.status == AccrueError.Code.conflict.exitCode)
    }
}
