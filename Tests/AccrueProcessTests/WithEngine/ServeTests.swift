import AccrueCore
import Foundation
import FoundationNetworking
import Testing

@Suite("accrue serve", .serialized, .timeLimit(.minutes(10)))
struct ServeTests {
    static func isAlive(_ pid: Int32) -> Bool { kill(pid, 0) == 0 }

    @Test("one line says where everything is; asked to end it ends with code 0, its children before it")
    func life() async throws {
        let daemon = try await Daemon(workers: 2)
        let ready = daemon.ready
        #expect(ready.control == "ipc://\(daemon.home)/run/control.sock" && ready.ingest.count == 2 && ready.query.count == 1)
        #expect(([ready.pid, ready.querier] + ready.workers).allSatisfy(Self.isAlive))
        #expect(try await daemon.stop() == 0)
        #expect(!([ready.pid, ready.querier] + ready.workers).contains(where: Self.isAlive))
        #expect(!daemon.log.contains("started again"))
    }

    @Test("a worker and a querier that are killed are started again, and pushes and queries go on")
    func restarts() async throws {
        let daemon = try await Daemon(workers: 1)
        let rows = try GoldenRows()
        try await daemon.accrue("pipeline", "apply", GoldenRows.pipeline)
        for child in daemon.ready.workers + [daemon.ready.querier] { kill(child, SIGKILL) }
        let push = try await daemon.accrue("push", "linear-golden", "--tensor", rows.inputs, "--tensor", rows.targets, "--wait")
        #expect(push.status == 0, "\(push.errors)")
        #expect(try await daemon.json("query", "linear-golden", "describe").first?["absorbedRows"] == 4)
        #expect(daemon.log.contains("worker-0 ended by signal 9; it is started again in 200 ms"))
        #expect(try await daemon.stop() == 0)
    }

    @Test("killed, it leaves no child behind and loses nothing: the next start goes on")
    func killed() async throws {
        let daemon = try await Daemon(workers: 2)
        let rows = try GoldenRows()
        try await daemon.accrue("pipeline", "apply", GoldenRows.pipeline)
        let pushed = try await daemon.json("push", "linear-golden", "--tensor", rows.inputs, "--tensor", rows.targets, "--rows-per-chunk", "1")
        let children = daemon.ready.workers + [daemon.ready.querier]
        try await daemon.kill()
        // All have joined only after they could lock their homes, which the old ones held.
        try await daemon.restart()
        #expect(!children.contains(where: Self.isAlive))
        let again = try await daemon.json("push", "linear-golden", "--tensor", rows.inputs, "--tensor", rows.targets, "--rows-per-chunk", "1", "--wait")
        #expect(again.map { $0["position"] } == pushed.map { $0["position"] } && again.allSatisfy { $0["duplicate"] == true })
        #expect(try await daemon.json("posterior", "show", "linear-golden").first?["absorbedChunks"] == 4)
    }

    @Test("a push that is under way goes on when the daemon is killed and started again, and counts nothing twice")
    func pushGoesOn() async throws {
        let daemon = try await Daemon(workers: 2)
        let rows = try GoldenRows(), count = 400
        try await daemon.accrue("pipeline", "apply", try rows.pipeline("many", replacing: ["chunks: 2": "chunks: 50"]))
        try rows.write("inputs", TensorBytes((0..<2 * count).map(Double.init), shape: [count, 2]))
        try rows.write("targets", TensorBytes((0..<count).map(Double.init), shape: [count]))
        let push = try daemon.follow("push", "many", "--tensor", rows.inputs, "--tensor", rows.targets, "--rows-per-chunk", "1", "--wait", "--json")
        var positions: [Int?] = []
        for index in 0..<count {
            let line = try await push.line()
            positions.append(try JSONValue(parsing: Data(line.utf8))["position"]?.int)
            guard index == 20 else { continue }
            try await daemon.kill()
            try await daemon.restart()
        }
        #expect(try await push.status() == 0)
        #expect(positions == Array(1...count))
        let version = try #require(try await daemon.json("posterior", "show", "many").first)
        #expect(version["absorbedChunks"]?.int == count && version["absorbedRows"]?.int == count)
    }

    @Test("with two replicas, everything acknowledged is learned though a worker's disk is lost", arguments: 0..<2)
    func replicas(lost: Int) async throws {
        let daemon = try await Daemon(workers: 2)
        let rows = try GoldenRows()
        try await daemon.accrue("pipeline", "apply", try rows.pipeline("twice", replacing: ["round: {chunks: 2}": "round: {chunks: 10}\nreplicas: 2"]))
        let pushed = try await daemon.json("push", "twice", "--tensor", rows.inputs, "--tensor", rows.targets, "--rows-per-chunk", "1")
        #expect(pushed.map { $0["position"]?.int } == [1, 2, 3, 4])
        try await daemon.kill()
        try FileManager.default.removeItem(atPath: "\(daemon.home)/workers/worker-\(lost)/spool")
        try await daemon.restart()
        try await daemon.accrue("flush", "twice")
        let again = try await daemon.json("push", "twice", "--tensor", rows.inputs, "--tensor", rows.targets, "--rows-per-chunk", "1", "--wait")
        #expect(again.allSatisfy { $0["duplicate"] == true })
        #expect(try await daemon.json("posterior", "show", "twice").first?["absorbedChunks"] == 4)
    }

    @Test("a chunk of finite numbers that are too large is set aside as diverged; all others are learned, and what is exported comes in again")
    func large() async throws {
        let daemon = try await Daemon(workers: 1)
        let rows = try GoldenRows()
        try await daemon.accrue("pipeline", "apply", try rows.pipeline("large", replacing: ["round: {chunks: 2}": "round: {chunks: 1}"]))
        #expect(try await daemon.accrue("push", "large", "--tensor", rows.inputs, "--tensor", rows.targets, "--wait").status == 0)
        for (x, y) in [(1.0, 1e200), (1e160, 1.0), (1e300, 1e300)] {
            let strange = try GoldenRows()
            try strange.write("inputs", TensorBytes([x, 2, 2, 1], shape: [2, 2]))
            try strange.write("targets", TensorBytes([y, 2], shape: [2]))
            let push = try await daemon.accrue("push", "large", "--tensor", strange.inputs, "--tensor", strange.targets, "--wait")
            #expect(push.status == 1 && push.errors.contains("set aside: diverged"), "\(x), \(y): \(push.errors)")
            let asked = try await daemon.accrue("query", "large", "predict", "--tensor", strange.inputs)
            #expect(asked.status == 0 || asked.status == AccrueError.Code.diverged.exitCode, "\(asked.errors)")
        }
        let learned = try await daemon.json("query", "large", "describe").first?["mean"]
        #expect(try await daemon.json("posterior", "show", "large").first?["absorbedChunks"] == 1)
        #expect(try await daemon.accrue("posterior", "export", "large", "--out", rows.path("large.safetensors")).status == 0)
        #expect(try await daemon.accrue("posterior", "import", "large", "--in", rows.path("large.safetensors")).status == 0)
        let version = try #require(try await daemon.json("posterior", "show", "large").first?["version"]?.int)
        #expect(try await daemon.json("query", "large", "describe", "--at-least", "\(version)").first?["mean"] == learned)
        #expect(!daemon.log.contains("started again") && !daemon.log.contains("did not take"), "\(daemon.log)")
        let missing = try await daemon.accrue("pipeline", "apply", try rows.pipeline("gaps", replacing: ["dtype: F64, shape: [2]}": "dtype: F64, shape: [2], missing: nan}"]))
        #expect(missing.status == AccrueError.Code.invalidInput.exitCode && missing.errors.contains("takes none"), "\(missing.errors)")
        #expect(try await daemon.stop() == 0)
    }

    @Test("two daemons do not share a home")
    func conflict() async throws {
        let daemon = try await Daemon(workers: 0)
        let second = try await Program.run("accrue", ["serve", "--home", daemon.home, "--workers", "0"])
        #expect(second.status == AccrueError.Code.conflict.exitCode && second.errors.contains("process \(daemon.ready.pid) "))
    }

    @Test("over loopback TCP everything works as over local sockets")
    func tcp() async throws {
        let daemon = try await Daemon(workers: 1, ["--listen", "tcp://127.0.0.1:*"])
        let rows = try GoldenRows()
        #expect(([daemon.ready.control, daemon.ready.events] + daemon.ready.ingest + daemon.ready.query).allSatisfy { $0.hasPrefix("tcp://127.0.0.1:") })
        func accrue(_ arguments: String...) async throws -> Program.Result { try await Program.run("accrue", arguments + ["--connect", daemon.ready.control]) }
        #expect(try await accrue("pipeline", "apply", GoldenRows.pipeline).status == 0)
        #expect(try await accrue("push", "linear-golden", "--tensor", rows.inputs, "--tensor", rows.targets, "--wait").status == 0)
        #expect(try await accrue("query", "linear-golden", "describe").status == 0)
        #expect(try await accrue("posterior", "export", "linear-golden", "--out", rows.path("out.safetensors")).status == 0)
    }

    @Test("over HTTP, with and without keys on its other sockets, rows go in and predictions come out", arguments: [[], ["--listen", "tcp://127.0.0.1:*", "--curve"]])
    func http(options: [String]) async throws {
        let daemon = try await Daemon(workers: 1, ["--http", "127.0.0.1:*"] + options)
        let url = try #require(daemon.ready.http)
        func ask(_ method: String, _ path: String, _ body: JSONValue? = nil) async throws -> JSONValue {
            var request = URLRequest(url: try #require(URL(string: url + path)))
            request.httpMethod = method
            request.setValue("application/json", forHTTPHeaderField: "Content-Type")
            request.httpBody = body?.canonicalBytes
            return try JSONValue(parsing: try await URLSession.shared.data(for: request).0)
        }
        try await daemon.accrue("pipeline", "apply", GoldenRows.pipeline)
        for (inputs, targets) in [([[1, 0], [1, 1]], [1, 2]), ([[1, 2], [1, 3]], [2, 4])] as [(JSONValue, JSONValue)] {
            let taken = try await ask("POST", "/v1/pipelines/linear-golden/chunks", ["tensors": ["inputs": inputs, "targets": targets]])
            #expect(taken["duplicate"] == false, "\(taken)")
        }
        let learned = try await ask("GET", "/v1/pipelines/linear-golden/chunks/2?waitMs=60000")
        #expect(learned["version"] == 1)
        // Closed forms: mean (0.824427, 0.916031), covariance ((0.145038, -0.061069), (-0.061069, 0.043257)), noise of variance 0.25.
        let answer = try await ask("POST", "/v1/pipelines/linear-golden/query/predict?atLeast=1", ["tensors": ["inputs": [[1, 2]]]])
        let row = try #require(answer["answers"]?.array?.first, "\(answer)")
        #expect(abs(try #require(row["mean"]?.double) - 2.656488549618321) < 1e-12)
        #expect(abs(try #require(row["epistemic"]?.double) - 0.2716456305566297) < 1e-12)
        let state = try #require(URL(string: url + "/v1/pipelines/linear-golden/posteriors/newest/state"))
        let exported = try Safetensors.decode(try await URLSession.shared.data(from: state).0)
        #expect(exported.metadata["version"] == "1" && exported.tensors["precision"]?.doubles() == [17, 24, 24, 57])
        #expect(try await daemon.stop() == 0)
    }

    @Test("an HTTP address that is taken ends the daemon, its children before it, with a message that names it")
    func httpTaken() async throws {
        let daemon = try await Daemon(workers: 0, ["--http", "127.0.0.1:*"])
        let address = try #require(daemon.ready.http?.dropFirst("http://".count))
        let home = "/tmp/accrue-d-\(UUID().uuidString.prefix(8))"
        defer { try? FileManager.default.removeItem(atPath: home) }
        let second = try await Program.run("accrue", ["serve", "--home", home, "--workers", "0", "--http", String(address)])
        #expect(second.status == AccrueError.Code.unavailable.exitCode && second.errors.contains(address), "\(second.errors)")
    }

    @Test("a wildcard, an address that is none, one that others reach without a token, and too long a home are refused", arguments: [
        ["--listen", "tcp://*:7700", "--insecure"], ["--listen", "nonsense"], ["--http", "nonsense"], ["--http", "0.0.0.0:7780"],
        ["--home", "/tmp/\(String(repeating: "x", count: 100))"],
    ])
    func refused(options: [String]) async throws {
        let home = options.contains("--home") ? [] : ["--home", "/tmp/accrue-never"]
        let result = try await Program.run("accrue", ["serve", "--workers", "1"] + home + options)
        #expect(result.status == AccrueError.Code.invalidInput.exitCode, "\(result.errors)")
        #expect(!FileManager.default.fileExists(atPath: "/tmp/accrue-never"))
    }
}
