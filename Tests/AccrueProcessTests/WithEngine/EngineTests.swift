import AccrueCore
import Foundation
import Testing

@Suite("accrue-engine's roles as processes", .timeLimit(.minutes(10)))
struct EngineTests {
    /// A short path: ipc endpoints may have 107 characters.
    static func home() -> String { "/tmp/accrue-e-\(UUID().uuidString.prefix(8))" }

    static func start(_ role: String, home: String, _ options: [String] = []) throws -> RunningProgram {
        try RunningProgram("accrue-engine", [role, "--coordinator", "ipc://\(home)/nobody.sock", "--home", home, "--name", "x"] + options)
    }

    @Test("the fingerprint names libtorch, BLAS and kernels, and one thread whatever the environment says")
    func fingerprint() async throws {
        let result = try await Program.run("accrue-engine", ["fingerprint", "--json"], environment: ["OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2"])
        let body = try JSONValue(parsing: Data(result.output.utf8))
        #expect(result.status == 0 && body["threads"] == 1 && body["blasThreads"]?.int ?? 0 <= 1)
        #expect(body["libtorch"]?.string?.isEmpty == false && body["cpuCapability"]?.string?.isEmpty == false)
        #expect(try await Program.run("accrue-engine", ["fingerprint"]).output.hasPrefix("libtorch "))
    }

    @Test("asked to end, a worker and a querier end with code 0, also when no coordinator was ever there", arguments: ["worker", "querier"], [SIGTERM, SIGINT])
    func ends(role: String, signal: Int32) async throws {
        let home = Self.home()
        defer { try? FileManager.default.removeItem(atPath: home) }
        let process = try Self.start(role, home: home)
        #expect(try await process.line { $0.contains(" at ipc://") }.hasPrefix("accrue-engine \(role) 'x': "))
        process.send(signal)
        #expect(try await process.status() == 0)
    }

    @Test("a worker whose parent is gone ends with code 0")
    func orphaned() async throws {
        let home = Self.home()
        defer { try? FileManager.default.removeItem(atPath: home) }
        let process = try Self.start("worker", home: home, ["--parent-holds"])
        _ = try await process.line { $0.contains("takes chunks") }
        process.closeInput()
        #expect(try await process.status() == 0)
    }

    @Test("a second worker in a home ends with the code of a conflict and says who is there")
    func conflict() async throws {
        let home = Self.home()
        defer { try? FileManager.default.removeItem(atPath: home) }
        let first = try Self.start("worker", home: home)
        _ = try await first.line { $0.contains("takes chunks") }
        let second = try Self.start("worker", home: home)
        #expect(try await second.line { $0.contains("conflict") }.contains("process \(first.identifier) "))
        #expect(try await second.status() == AccrueError.Code.conflict.exitCode)
        first.send(SIGTERM)
        #expect(try await first.status() == 0)
    }

    @Test("the swap of a version is measured without a daemon")
    func swap() async throws {
        let result = try await Program.run("accrue", ["bench", "swap", GoldenRows.pipeline, "--swaps", "5", "--json"])
        let figures = try JSONValue(parsing: Data(result.output.utf8))
        #expect(result.status == 0 && figures["swaps"] == 5 && figures["medianMs"]?.double != nil && figures["p99Ms"]?.double != nil, "\(result.errors)")
    }

    @Test("a name that cannot be one is invalid input")
    func badName() async throws {
        let result = try await Program.run("accrue-engine", ["worker", "--coordinator", "ipc:///tmp/x", "--home", Self.home(), "--name", "../x"])
        #expect(result.status == AccrueError.Code.invalidInput.exitCode && result.errors.contains("../x"))
    }
}
