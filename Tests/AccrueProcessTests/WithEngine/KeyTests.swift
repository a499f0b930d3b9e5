import AccrueCore
import Foundation
import Testing

@Suite("accrue keys, and a daemon that asks for them", .serialized, .timeLimit(.minutes(10)))
struct KeyTests {
    /// Runs a command as the holder of a key.
    private static func accrue(_ daemon: Daemon, _ key: String?, _ arguments: String...) async throws -> Program.Result {
        try await Program.run("accrue", arguments + ["--connect", daemon.ready.control] + (key.map { ["--key-file", $0] } ?? []))
    }

    private static func code(_ result: Program.Result) -> AccrueError.Code? { AccrueError.Code.allCases.first { $0.exitCode == result.status } }

    @Test("keys are made, listed and revoked; what cannot be says why")
    func commands() async throws {
        let home = "/tmp/accrue-d-\(UUID().uuidString.prefix(8))"
        defer { try? FileManager.default.removeItem(atPath: home) }
        func keys(_ arguments: String...) async throws -> Program.Result { try await Program.run("accrue", ["keys"] + arguments + ["--home", home, "--json"]) }
        #expect(Self.code(try await keys("list")) == .notFound)
        let first = try await keys("init"), again = try await keys("init")
        #expect(first.status == 0 && first.output == again.output)
        let added = try await keys("add", "line-3", "--role", "producer", "--out", "\(home)/line-3.key")
        #expect(try JSONValue(parsing: Data(added.output.utf8))["role"] == "producer")
        #expect(Self.code(try await keys("add", "line-3", "--role", "reader", "--out", "\(home)/other.key")) == .conflict)
        #expect(try await keys("add", "x", "--role", "king").status == 64)
        let listed = try await keys("list").output.split(separator: "\n").map { try JSONValue(parsing: Data($0.utf8))["name"]?.string }
        #expect(listed == ["children", "line-3", "owner"])
        let doctor = try await Program.run("accrue", ["doctor", "--home", home, "--json"])
        #expect(doctor.output.contains("3 are authorised") && !doctor.output.contains("problem\""))
        #expect(try await keys("revoke", "line-3").status == 0)
        #expect(Self.code(try await keys("revoke", "line-3")) == .notFound)
        try FileManager.default.setAttributes([.posixPermissions: 0o644], ofItemAtPath: "\(home)/keys/server.key")
        let open = try await Program.run("accrue", ["doctor", "--home", home, "--json"])
        #expect(open.status == 1 && open.output.contains("chmod 600"))
    }

    @Test("over TCP each holder does what its role allows; the owner needs no key; a worker joins from elsewhere")
    func roles() async throws {
        let daemon = try await Daemon(workers: 1, ["--listen", "tcp://127.0.0.1:*", "--curve"])
        let rows = try GoldenRows()
        #expect((daemon.ready.ingest + daemon.ready.query + [daemon.ready.events]).allSatisfy { $0.contains("?key=") })
        func key(_ name: String, _ role: String) async throws -> String {
            let path = rows.path("\(name).key")
            #expect(try await Program.run("accrue", ["keys", "add", name, "--role", role, "--home", daemon.home, "--out", path]).status == 0)
            return path
        }
        let producer = try await key("p", "producer"), reader = try await key("r", "reader"), worker = try await key("w", "worker")
        #expect(try await daemon.accrue("pipeline", "apply", GoldenRows.pipeline).status == 0)

        // The daemon takes new keys up within seconds; until then nobody is told anything.
        var push = try await Self.accrue(daemon, producer, "push", "linear-golden", "--tensor", rows.inputs, "--tensor", rows.targets, "--wait")
        while Self.code(push) == .unauthorised || Self.code(push) == .unavailable {
            push = try await Self.accrue(daemon, producer, "push", "linear-golden", "--tensor", rows.inputs, "--tensor", rows.targets, "--wait")
        }
        #expect(push.status == 0, "\(push.errors)")
        #expect(try await Self.accrue(daemon, reader, "query", "linear-golden", "describe", "--at-least", "1").status == 0)
        #expect(try await Self.accrue(daemon, reader, "posterior", "export", "linear-golden", "--out", rows.path("out.safetensors")).status == 0)
        #expect(try await daemon.json("query", "linear-golden", "describe").first?["absorbedRows"] == 4)
        #expect(Self.code(try await Self.accrue(daemon, producer, "query", "linear-golden", "describe")) == .unauthorised)
        #expect(Self.code(try await Self.accrue(daemon, reader, "push", "linear-golden", "--tensor", rows.inputs, "--tensor", rows.targets)) == .unauthorised)
        #expect(Self.code(try await Self.accrue(daemon, reader, "pipeline", "delete", "linear-golden")) == .unauthorised)
        #expect(Self.code(try await Self.accrue(daemon, nil, "status")) == .unauthorised)

        // A worker with a home and a key of its own, as on another machine.
        let joined = try RunningProgram(
            "accrue", ["worker", "--coordinator", daemon.ready.control, "--key-file", worker, "--home", rows.path("far"), "--name", "far", "--listen", "tcp://127.0.0.1:*"])
        while try await daemon.json("status").first?["workers"]?.array?.contains(where: { $0["name"] == "far" && $0["alive"] == true }) != true {}

        for name in ["r", "w"] { #expect(try await Program.run("accrue", ["keys", "revoke", name, "--home", daemon.home]).status == 0) }
        #expect(try await joined.status() == AccrueError.Code.unauthorised.exitCode)
        #expect(Self.code(try await Self.accrue(daemon, reader, "status")) == .unauthorised)
        #expect(try await daemon.stop() == 0)
    }

    @Test("a worker that other machines could reach needs a key, or says that it is insecure")
    func worker() async throws {
        let result = try await Program.run(
            "accrue", ["worker", "--coordinator", "tcp://192.0.2.1:7700", "--home", "/tmp/accrue-never", "--name", "w", "--listen", "tcp://192.0.2.2:7700"])
        #expect(result.status == AccrueError.Code.invalidInput.exitCode && result.errors.contains("--key-file"))
        #expect(!FileManager.default.fileExists(atPath: "/tmp/accrue-never"))
    }
}
