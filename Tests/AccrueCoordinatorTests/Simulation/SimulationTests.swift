import AccrueTesting
import Foundation
import Testing

@Suite("Simulated clusters in storms")
struct SimulationTests {
    /// Seeds that find what was once wrong: holders forgotten when a page of an inventory came again (86), an error that confirmed itself (134).
    private static let memorable = [86, 134]

    private static let environment = ProcessInfo.processInfo.environment
    private static let only = environment["ACCRUE_SIMULATION_SEED"].flatMap(Int.init)
    private static let count = environment["ACCRUE_SIMULATION_SEEDS"].flatMap(Int.init) ?? 500
    private static let lanes = 4

    private static func seeds(lane: Int) -> [Int] {
        if let only { return lane == 0 ? [only] : [] }
        return Array(stride(from: 1 + lane, through: count, by: lanes)) + (lane == 0 ? memorable.filter { $0 > count } : [])
    }

    @Test("whatever happens, versions are the quiet fold of the log, and what was acknowledged counts once", arguments: 0..<lanes)
    func free(lane: Int) async throws {
        let replicas = try await onOwnThread {
            var replicas = 0
            for seed in Self.seeds(lane: lane) where seed % 5 != 0 { replicas += try Self.simulate(seed, .free) }
            return replicas
        }
        if Self.only == nil, Self.count >= 100 { #expect(replicas > 0, "no world of these seeds had replicas") }
    }

    @Test("one producer gets the bytes of a local run from any cluster, whatever happens", arguments: 0..<lanes)
    func ordered(lane: Int) async throws {
        try await onOwnThread { for seed in Self.seeds(lane: lane) where seed % 5 == 0 { _ = try Self.simulate(seed, .ordered) } }
    }

    /// - Returns: chunks that were committed with replicas.
    private static func simulate(_ seed: Int, _ kind: World.Kind) throws -> Int {
        let home = "\(FileManager.default.fileExists(atPath: "/dev/shm") ? "/dev/shm" : NSTemporaryDirectory())/accrue-simulation-\(UUID().uuidString)"
        defer { try? FileManager.default.removeItem(atPath: home) }
        let world = try World(seed: seed, kind: kind, home: home, keepsHistory: only != nil)
        world.run()
        if only != nil { print(world.history.joined(separator: "\n")) }
        guard let first = world.violations.first else { return world.witness.replicas }
        Issue.record("seed \(seed), \(first)\nalone, with its history: ACCRUE_SIMULATION_SEED=\(seed) swift test --filter SimulationTests")
        return world.witness.replicas
    }
}
