import AccrueCore
import AccrueTesting
import Foundation
import Testing

/// Processes killed at random moments: the log is the only input to learning, so the posterior is byte for byte that of a quiet run.
@Suite("Killed processes", .serialized, .timeLimit(.minutes(20)))
struct KillTests {
    /// `ACCRUE_KILL_TRIES` sets how many; a failure names its seed, which `ACCRUE_KILL_SEED` runs alone.
    static let seeds: [UInt64] = {
        let environment = ProcessInfo.processInfo.environment
        if let seed = environment["ACCRUE_KILL_SEED"].flatMap(UInt64.init) { return [seed] }
        return Array(1...(environment["ACCRUE_KILL_TRIES"].flatMap(UInt64.init) ?? 3))
    }()

    static func quiet(_ rows: SpiralRows) async throws -> Data {
        let run = try await Program.run("accrue", ["run", rows.pipeline, "--out", rows.path("quiet.safetensors")])
        #expect(run.status == 0, "\(run.errors)")
        return try Data(contentsOf: URL(fileURLWithPath: rows.path("quiet.safetensors")))
    }

    static func exported(_ rows: SpiralRows, _ daemon: Daemon) async throws -> Data {
        let export = try await daemon.accrue("posterior", "export", "spirals", "--out", rows.path("exported.safetensors"))
        #expect(export.status == 0, "\(export.errors)")
        return try Data(contentsOf: URL(fileURLWithPath: rows.path("exported.safetensors")))
    }

    @Test("one worker and two workers export the bytes of a quiet run", arguments: [1, 2])
    func workers(count: Int) async throws {
        let rows = try SpiralRows()
        let daemon = try await Daemon(workers: count)
        try await daemon.accrue("pipeline", "apply", rows.pipeline)
        #expect(try await rows.pushing(daemon).status() == 0)
        #expect(try await Self.exported(rows, daemon) == Self.quiet(rows))
    }

    @Test("workers and the daemon killed at random moments of learning: the bytes of a quiet run", arguments: seeds)
    func kills(seed: UInt64) async throws {
        let rows = try SpiralRows()
        let expected = try await Self.quiet(rows)
        var random = SplitMix(state: seed)
        let daemon = try await Daemon(workers: 2)
        try await daemon.accrue("pipeline", "apply", rows.pipeline)
        let push = try rows.pushing(daemon)
        // Of one daemon's life; a third worker's death in one lease would pause the pipeline, until a person lets it go on.
        var childrenKilled = 0
        for _ in 0..<4 {
            try await Task.sleep(for: .milliseconds(Int.random(in: 20...800, using: &random)))
            if Bool.random(using: &random), childrenKilled < 2 {
                childrenKilled += 1
                if let victim = try daemon.children.randomElement(using: &random) { kill(victim, SIGKILL) }
            } else {
                try await daemon.kill()
                try await daemon.restart()
                childrenKilled = 0
            }
        }
        let status = try await push.status()
        #expect(status == 0, "seed \(seed): \(daemon.log)")
        #expect(try await Self.exported(rows, daemon) == expected, "seed \(seed): other bytes than those of the quiet run")
        #expect(try await daemon.stop() == 0)
    }

    /// Waits until a worker fits for that version or a later one.
    /// - Returns: the worker's place.
    private static func fitting(_ daemon: Daemon, version: Int) async throws -> Int {
        while true {
            let workers = try await daemon.json("status").first?["workers"]?.array ?? []
            for worker in workers {
                guard let lease = worker["lease"], lease["phase"] == "fit", (lease["version"]?.int ?? 0) >= version, let name = worker["name"]?.string else { continue }
                return try #require(Int(name.dropFirst("worker-".count)))
            }
        }
    }

    @Test("whatever the method, a worker and then the daemon killed in the middle of a fit: the bytes of a quiet run", arguments: SpiralRows.Learner.others)
    func methods(learner: SpiralRows.Learner) async throws {
        let rows = try SpiralRows(learner)
        let daemon = try await Daemon(workers: 2)
        try await daemon.accrue("pipeline", "apply", rows.pipeline)
        let push = try rows.pushing(daemon)
        kill(daemon.ready.workers[try await Self.fitting(daemon, version: 1)], SIGKILL)
        _ = try await Self.fitting(daemon, version: 2)
        try await daemon.kill()
        try await daemon.restart()
        #expect(try await push.status() == 0, "\(daemon.log)")
        #expect(daemon.log.contains("ended by signal 9"))
        #expect(try await Self.exported(rows, daemon) == Self.quiet(rows))
        #expect(try await daemon.stop() == 0)
    }
}
