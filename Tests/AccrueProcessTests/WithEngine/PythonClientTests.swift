import AccrueCore
import Foundation
import Testing

/// A client that was written from ops/PROTOCOL.md alone, against a real daemon.
@Suite(
    "A plain Python client", .timeLimit(.minutes(10)), .serialized,
    .enabled(if: ProcessInfo.processInfo.environment["ACCRUE_PYTHON_CHECK"] != "0", "ACCRUE_PYTHON_CHECK=0 leaves it out"))
struct PythonClientTests {
    private static let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().appendingPathComponent("../../..").standardizedFileURL.path

    /// A Python with pyzmq, safetensors and numpy; made once, beside the build.
    private static func python() async throws -> String {
        let folder = "\(root)/.build/python-client", python = "\(folder)/bin/python"
        let imports = ["-c", "import numpy, safetensors.numpy, zmq"]
        if FileManager.default.isExecutableFile(atPath: python), try await Program.run(python, imports).status == 0 { return python }
        for command in [["/usr/bin/python3", "-m", "venv", folder], [python, "-m", "pip", "install", "--quiet", "pyzmq", "safetensors", "numpy"]] {
            let result = try await Program.run(command[0], Array(command.dropFirst()))
            guard result.status == 0 else {
                throw AccrueError(
                    .unavailable, while: "running '\(command.joined(separator: " "))'", result.errors + result.output,
                    hint: "install python3-venv, allow pip to reach an index, or set ACCRUE_PYTHON_CHECK=0 to leave this test out")
            }
        }
        return python
    }

    @Test("everything that the protocol page promises a client is so, on local sockets and over TCP, with keys too",
        arguments: [[], ["--listen", "tcp://127.0.0.1:*"], ["--listen", "tcp://127.0.0.1:*", "--curve"]])
    func check(listening: [String]) async throws {
        let python = try await Self.python()
        let daemon = try await Daemon(workers: 2, listening)
        let keys = listening.contains("--curve") ? ["--key-file", "\(daemon.home)/keys/owner.key"] : []
        let result = try await Program.run(python, ["\(Self.root)/ops/clients/python/accrue_protocol_check.py", daemon.ready.control] + keys)
        #expect(result.status == 0, "\(result.errors)\n\(daemon.log)")
        #expect(try await daemon.stop() == 0)
    }

    @Test("an export says to any reader of safetensors which pipeline, version and method it is of, and what its tensors are")
    func export() async throws {
        let python = try await Self.python()
        let rows = try GoldenRows(), path = rows.path("export.safetensors")
        #expect(try await Program.run("accrue", ["run", GoldenRows.pipeline, "--out", path]).status == 0)
        let script = """
            import json, safetensors
            with safetensors.safe_open("\(path)", "numpy") as file:
                said = file.metadata()
                roles = json.loads(said["roles"])
                assert set(roles) == set(file.keys()) == {"precision", "precisionMean"}, roles
                print(said["pipeline"], said["version"], said["method"], roles["precision"])
            """
        let result = try await Program.run(python, ["-c", script])
        #expect(result.output == "linear-golden 2 IncrementalBayes precision\n", "\(result.errors)")
    }
}
