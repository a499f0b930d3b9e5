import AccrueCore
import Foundation
import Testing

@Suite("Commands against a daemon", .serialized, .timeLimit(.minutes(10)))
struct CommandTests {
    @Test("what a daemon learns from pushed rows is, byte for byte, what a run in one process learns, and exact")
    func golden() async throws {
        let daemon = try await Daemon(workers: 2)
        let rows = try GoldenRows()
        #expect(try await daemon.json("pipeline", "apply", GoldenRows.pipeline).first?["version"] == 0)
        let pushed = try await daemon.json("push", "linear-golden", "--tensor", rows.inputs, "--tensor", rows.targets, "--rows-per-chunk", "1", "--wait")
        #expect(pushed.map { $0["position"] } == [1, 2, 3, 4] && pushed.allSatisfy { $0["duplicate"] == false && $0["chunk"]?.string?.count == 64 })

        let exported = rows.path("daemon.safetensors"), local = rows.path("local.safetensors")
        #expect(try await daemon.json("posterior", "export", "linear-golden", "--out", exported).first?["version"] == 2)
        #expect(try await Program.run("accrue", ["run", GoldenRows.pipeline, "--out", local]).status == 0)
        let export = try Data(contentsOf: URL(fileURLWithPath: exported))
        #expect(try export == Data(contentsOf: URL(fileURLWithPath: local)))
        let metadata = try Safetensors.decode(export).metadata
        #expect(metadata["pipeline"] == "linear-golden" && metadata["version"] == "2" && metadata["method"] == "IncrementalBayes")
        #expect(metadata["roles"] == #"{"precision":"precision","precisionMean":"precision times mean"}"#)

        let description = try #require(try await daemon.json("query", "linear-golden", "describe").first)
        let mean = Expectation.flatten(try #require(description["mean"]))
        #expect(zip(mean, [0.8244274809160306, 0.9160305343511451]).allSatisfy { abs($0 - $1) < 1e-9 } && mean.count == 2)
        #expect(description["version"] == 2 && description["absorbedChunks"] == 4)
        #expect(try await daemon.json("query", "linear-golden", "describe", "--at", "1").first?["absorbedChunks"] == 2)
        #expect(try await daemon.json("posterior", "list", "linear-golden").map { $0["version"] } == [0, 1, 2])

        let predicted = try #require(try await daemon.json("query", "linear-golden", "predict", "--tensor", rows.inputs, "--tensor", rows.targets, "--rows", "3").first)
        #expect(predicted["rows"] == 3 && predicted["answers"]?.array?.count == 3 && predicted["logPredictiveDensity"]?.double != nil)
        let summary = try #require(try await daemon.json("query", "linear-golden", "predict", "--tensor", rows.inputs, "--summary").first)
        #expect(summary["rows"] == 4 && summary["answers"] == nil && summary["meanEpistemic"]?.double != nil && summary["logPredictiveDensity"] == nil)
    }

    @Test("rows of a CSV file are the rows of the tensors they name, and a key stands for one content")
    func identity() async throws {
        let daemon = try await Daemon(workers: 1)
        let rows = try GoldenRows()
        let columns = ["shape: [2]}": "shape: [2], columns: [bias, x]}", "shape: []}": "shape: [], columns: [y]}"]
        let pipeline = try rows.pipeline("columns", replacing: columns)
        try await daemon.accrue("pipeline", "apply", pipeline)
        let first = try #require(try await daemon.json("push", "columns", rows.csv, "--key", "k").first)
        let second = try #require(try await daemon.json("push", "columns", "--tensor", rows.inputs, "--tensor", rows.targets, "--key", "k").first)
        #expect(first["chunk"] == second["chunk"] && second["position"] == first["position"] && second["duplicate"] == true)
        let other = try await daemon.accrue("push", "columns", rows.csv, "--key", "k", "--first-row", "1")
        #expect(other.status == AccrueError.Code.conflict.exitCode && other.errors.contains("'k'"))
        let parts = try await daemon.json("push", "columns", rows.csv, "--key", "m", "--rows-per-chunk", "3")
        #expect(parts.count == 2)
        #expect(try await daemon.json("chunks", "list", "columns").map { $0["chunk"]?["key"] } == ["k", "m/0", "m/1"])

        // A question needs no targets, and says how good the answers are where they are there.
        let inputs = rows.path("inputs.csv")
        try Data("x,bias\n0,1\n3,1\n".utf8).write(to: URL(fileURLWithPath: inputs))
        let asked = try #require(try await daemon.json("query", "columns", "predict", inputs).first)
        #expect(asked["rows"] == 2 && asked["answers"]?.array?.count == 2 && asked["logPredictiveDensity"] == nil)
        #expect(try await daemon.json("query", "columns", "predict", rows.csv, "--summary").first?["logPredictiveDensity"]?.double != nil)
        // The third row is not finite: it is named by its number in the file, not in its chunk.
        try rows.write("nan", TensorBytes([1, 0, 1, 1, 1, Double.nan, 1, 3], shape: [4, 2]))
        let wrong = try await daemon.accrue("push", "columns", "--tensor", "inputs=\(rows.path("nan.safetensors"))", "--tensor", rows.targets, "--rows-per-chunk", "1")
        #expect(wrong.status == AccrueError.Code.invalidInput.exitCode && wrong.errors.contains("begins with row 2 of those given"), "\(wrong)")
    }

    @Test("each mistake has its exit code, and changes nothing")
    func mistakes() async throws {
        let daemon = try await Daemon(workers: 1)
        let rows = try GoldenRows()
        try await daemon.accrue("pipeline", "apply", GoldenRows.pipeline)
        try rows.write("float", TensorBytes([1, 0] as [Float], shape: [1, 2]))
        try rows.write("nan", TensorBytes([1, Double.nan], shape: [1, 2]))
        try rows.write("one", TensorBytes([1.0], shape: [1]))
        try rows.write("empty", TensorBytes(dtype: .f64, shape: [0, 2], data: Data()))
        try Data(repeating: 255, count: 64).write(to: rows.folder.appendingPathComponent("unknown"))
        func push(_ inputs: String, _ pipeline: String = "linear-golden") async throws -> Int32 {
            try await daemon.accrue("push", pipeline, "--tensor", "inputs=\(rows.path(inputs))", "--tensor", "targets=\(rows.path("one.safetensors"))").status
        }
        let codes: [(AccrueError.Code, Int32)] = [
            (.invalidInput, try await push("float.safetensors")), (.invalidInput, try await push("nan.safetensors")), (.invalidInput, try await push("empty.safetensors")),
            (.invalidInput, try await daemon.accrue("push", "linear-golden", "--tensor", rows.targets).status),
            (.invalidInput, try await daemon.accrue("push", "linear-golden", "--tensor", "inputs").status),
            (.invalidInput, try await daemon.accrue("push", "linear-golden", "--tensor", rows.inputs, "--tensor", rows.targets, "--first-row", "4").status),
            (.invalidInput, try await push("unknown")), (.notFound, try await push("no-such-file")),
            (.notFound, try await daemon.accrue("push", "nobody", "--tensor", rows.inputs, "--tensor", rows.targets).status),
            (.notFound, try await daemon.accrue("query", "nobody", "describe").status), (.notFound, try await daemon.accrue("query", "linear-golden", "describe", "--at", "9").status),
            (.notFound, try await daemon.accrue("query", "linear-golden", "predikt").status), (.notFound, try await daemon.accrue("flush", "nobody").status),
            (.invalidInput, try await daemon.accrue("query", "linear-golden", "predict", "--tensor", rows.targets).status),
            (.notFound, try await daemon.accrue("chunks", "retry", "linear-golden", "1").status), (.notFound, try await daemon.accrue("chunks", "set-aside", "linear-golden", "0", "--reason", "none").status),
        ]
        for (index, (expected, status)) in codes.enumerated() { #expect(status == expected.exitCode, "mistake \(index)") }
        #expect(try await daemon.json("chunks", "list", "linear-golden").isEmpty)
        #expect(try await Program.run("accrue", ["status", "--connect", "ipc:///tmp/accrue-nobody.sock"]).status == AccrueError.Code.unavailable.exitCode)
    }

    @Test("a chunk that is set aside is not waited for in vain, and comes back by a retry")
    func setAside() async throws {
        let daemon = try await Daemon(workers: 1)
        let rows = try GoldenRows()
        try await daemon.accrue("pipeline", "apply", GoldenRows.pipeline)
        func push(_ options: String...) async throws -> Program.Result {
            try await Program.run("accrue", ["push", "linear-golden", "--tensor", rows.inputs, "--tensor", rows.targets, "--connect", daemon.ready.control] + options)
        }
        #expect(try await push().status == 0)
        #expect(try await daemon.json("chunks", "set-aside", "linear-golden", "1", "--reason", "labels shifted").first?["positions"]?.array?.count == 1)
        let waited = try await push("--wait")
        #expect(waited.status == 1 && waited.errors.contains("labels shifted"))
        #expect(try await daemon.json("chunks", "list", "linear-golden", "--state", "setAside").map { $0["position"] } == [1])
        #expect(try await daemon.accrue("chunks", "retry", "linear-golden", "2").status == AccrueError.Code.conflict.exitCode)
        #expect(try await daemon.json("chunks", "retry", "linear-golden", "1").first?["positions"]?.array?.count == 1)
        let events = try daemon.follow("events", "--follow", "--json")
        try await daemon.accrue("flush", "linear-golden")
        _ = try await events.line { $0.contains("\"version\"") }
        events.send(SIGTERM)
        #expect(try await daemon.json("posterior", "show", "linear-golden").first?["absorbedChunks"] == 1)
    }

    @Test("an answer for people names the likeliest classes, one for programs lists the names")
    func classes() async throws {
        let daemon = try await Daemon(workers: 1)
        let rows = try SpiralRows()
        try await daemon.accrue("pipeline", "apply", rows.pipeline)
        let inputs = "inputs=\(rows.path("inputs.safetensors"))"
        let text = try await daemon.accrue("query", "spirals", "predict", "--tensor", inputs, "--rows", "2", "--at-least", "0")
        let lines = text.output.split(separator: "\n").filter { $0.hasPrefix("row ") }
        #expect(lines.count == 2 && lines.allSatisfy { $0.contains("left 0.") && $0.contains("right 0.") && !$0.contains("[") }, "\(text)")
        let answer = try #require(try await daemon.json("query", "spirals", "predict", "--tensor", inputs, "--rows", "2").first)
        #expect(answer["classes"] == ["left", "right"] && answer["answers"]?.array?.first?["probabilities"]?.array?.count == 2)
        let tooLate = try await daemon.accrue("query", "spirals", "describe", "--at-least", "1")
        #expect(tooLate.status == AccrueError.Code.unavailable.exitCode && tooLate.errors.contains("its newest version is 0, and at least 1 is wanted"))
    }

    @Test("followed events and a watched status come as things happen")
    func following() async throws {
        let daemon = try await Daemon(workers: 1)
        let events = try daemon.follow("events", "--follow", "--json"), status = try daemon.follow("status", "--watch", "--json")
        _ = try await status.line()
        try await daemon.accrue("pipeline", "apply", GoldenRows.pipeline)
        #expect(try await events.line { $0.contains("\"applied\"") }.contains("linear-golden"))
        #expect(try await status.line { $0.contains("linear-golden") }.contains("\"active\""))
        try await daemon.accrue("pipeline", "delete", "linear-golden")
        #expect(try await events.line { $0.contains("\"deleted\"") }.contains("linear-golden"))
        _ = try await status.line { !$0.contains("linear-golden") }
        for program in [events, status] { program.send(SIGTERM) }
    }

    @Test("the doctor says who holds the locks, that the daemon answers, and which state was damaged")
    func doctor() async throws {
        let daemon = try await Daemon(workers: 1)
        try await daemon.accrue("pipeline", "apply", GoldenRows.pipeline)
        let findings = try await daemon.json("doctor", "--home", daemon.home)
        func text(_ subject: String) -> String { findings.first { $0["subject"]?.string == subject }?["text"]?.string ?? "" }
        #expect(text("lock of coordinator") == "held by process \(daemon.ready.pid)" && text("lock of worker-0") == "held by process \(daemon.ready.workers[0])")
        #expect(text("daemon").contains("1 workers and 1 queriers") && text("engine").contains("libtorch"))
        #expect(findings.allSatisfy { $0["state"] == "ok" }, "\(findings)")
        _ = try await daemon.stop()
        let after = try await daemon.json("doctor", "--home", daemon.home)
        #expect(after.contains { $0["subject"] == "lock of worker-0" && $0["text"] == "free" } && after.contains { $0["subject"] == "daemon" && $0["state"] == "warning" })
        #expect(after.contains { $0["subject"] == "states" && $0["text"] == "the newest 1 are as they were written" })
        let state = try #require(try FileManager.default.contentsOfDirectory(atPath: "\(daemon.home)/states").first)
        var bytes = try Data(contentsOf: URL(fileURLWithPath: "\(daemon.home)/states/\(state)"))
        bytes[bytes.count - 1] ^= 1
        try bytes.write(to: URL(fileURLWithPath: "\(daemon.home)/states/\(state)"))
        let damaged = try await daemon.accrue("doctor", "--home", daemon.home)
        #expect(damaged.status == 1 && damaged.output.contains(state), "\(damaged.output)")
    }
}
