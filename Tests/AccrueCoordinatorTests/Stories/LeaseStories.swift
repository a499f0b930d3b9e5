import AccrueCore
import AccrueTesting
import AccrueWire
import Foundation
import Testing

@testable import AccrueCoordinator

@Suite("Leases: who does what, and what becomes of it")
struct LeaseStories {
    /// Workers "a", "b", …, a pipeline with two chunks a round, and one complete round of which every worker has the rows.
    private static func scene(workers: [String] = ["a", "b"], shards: Int = 1) throws -> (scene: Scene, incarnation: String) {
        var scene = Scene()
        try scene.join("a")
        let incarnation = try scene.apply(HashChain.pipeline(chunks: 2, shards: shards))
        for worker in workers.dropFirst() { try scene.join(worker) }
        for worker in workers { for chunk in ["one", "two"] { try scene.push(chunk, to: worker, incarnation) } }
        return (scene, incarnation)
    }

    @Test("a round goes through fit, merge and finish, and makes a version")
    func round() throws {
        var (scene, incarnation) = try Self.scene(workers: ["a"])
        #expect(scene.lease("a")?.identity.phase == .fit)
        #expect(scene.lease("a")?.rows.map(\.position) == [1, 2])
        #expect(scene.lease("a")?.locations.values.allSatisfy { $0 == ["at-a"] } == true)
        try scene.finish("a")
        #expect(scene.lease("a")?.identity.phase == .merge)
        try scene.finish("a")
        #expect(scene.lease("a")?.identity.phase == .finish)
        try scene.finish("a")
        #expect(try scene.status().version == 1)
        #expect(try scene.status().absorbed == .init(chunks: 2, rows: 4))
        #expect(scene.hints.contains(Hint(kind: .version, pipeline: "chain", version: 1)))
        #expect(scene.told("a", .drop, as: Drop.self).map(\.incarnation) == [incarnation, incarnation])
    }

    @Test("shards of a round are spread over the workers")
    func spread() throws {
        let (scene, _) = try Self.scene(shards: 2)
        #expect(Set(["a", "b"].compactMap { scene.lease($0)?.identity.shard }) == [0, 1])
    }

    @Test("an answer to a lease of another attempt or boot is dropped, and whoever works on one is told to stop")
    func stale() throws {
        var (scene, _) = try Self.scene(workers: ["a"])
        var stale = try #require(scene.lease("a")).identity
        for change in [{ $0.attempt = 7 }, { $0.boot = "earlier" }, { $0.version = 3 }] as [(inout LeaseIdentity) -> Void] {
            stale = try #require(scene.lease("a")).identity
            change(&stale)
            try scene.say(.done, LeaseDone(worker: "a", lease: stale, blob: ContentHash(of: Data("stale".utf8))), from: "a")
            #expect(scene.coordinator.pipelines.values.first?.round?.step == .fit(sweep: 0))
            try scene.say(.heartbeat, Heartbeat(worker: "a", lease: stale, step: 1), from: "a")
            #expect(scene.told("a", .cancel, as: Cancel.self).last?.lease == stale)
        }
    }

    @Test("the same result told twice counts once")
    func twice() throws {
        var (scene, _) = try Self.scene(workers: ["a"], shards: 2)
        let task = try #require(scene.lease("a"))
        let done = LeaseDone(worker: "a", lease: task.identity, blob: ContentHash(of: Data("delta".utf8)), report: FitReport(steps: 1))
        try scene.say(.done, done, from: "a", id: "same")
        try scene.say(.done, done, from: "a", id: "same")
        #expect(scene.coordinator.pipelines.values.first?.round?.openPieces == [Piece(phase: .fit, sweep: 0, shard: 1 - task.identity.shard)])
    }

    @Test("of two processes with one name the newest wins, and what the older one worked on is given again")
    func newest() throws {
        var (scene, _) = try Self.scene(workers: ["a"])
        let lease = try #require(scene.lease("a")).identity
        try scene.say(.hello, Hello(role: .worker, name: "a", boot: "2", endpoint: "elsewhere"), from: "new")
        let refused = try scene.say(.heartbeat, Heartbeat(worker: "a", lease: lease, step: 1), from: "a")
        #expect(scene.refusal(refused) == .notFound)
        try scene.say(.ready, Ready(worker: "a"), from: "new")
        #expect(scene.lease("new")?.identity == lease)
    }

    @Test("a worker that falls silent loses its lease to another; coming back as the same process, it did not die")
    func silence() throws {
        var (scene, incarnation) = try Self.scene()
        let items = ["one", "two"].map { InventoryItem(incarnation: incarnation, chunk: Scene.chunk($0)) }
        let lease = try #require(scene.lease("a")).identity
        try scene.pass(ms: 4_000, beating: ["b"])
        #expect(scene.lease("b")?.identity == lease)
        for _ in 0..<5 {
            // Again and again: no process has ended, so nothing counts against the data.
            try scene.join("a", holding: items)
            try scene.pass(ms: 4_000, beating: ["a"])
            try scene.join("b", holding: items)
            try scene.pass(ms: 4_000, beating: ["b"])
        }
        #expect(try scene.status().state == .active)
        #expect(scene.coordinator.leases.held[lease]?.worker == "b")
    }

    @Test("three processes that end in one lease pause the pipeline, which names their chunks; a person lets it go on")
    func deaths() throws {
        var (scene, _) = try Self.scene(workers: ["a"])
        for boot in ["2", "3"] {
            try scene.join("a", boot: boot, holding: [])
            for chunk in ["one", "two"] { try scene.push(chunk, to: "a", scene.coordinator.pipelines.keys.first ?? "") }
            #expect(scene.lease("a")?.identity.phase == .fit)
            #expect(try scene.status().state == .active)
        }
        try scene.join("a", boot: "4")
        let status = try scene.status()
        #expect(status.state == .paused)
        #expect(status.reason?.contains("positions 1, 2") == true)
        scene.forgetSent()
        for chunk in ["one", "two"] { try scene.push(chunk, to: "a", scene.coordinator.pipelines.keys.first ?? "") }
        try scene.say(.ready, Ready(worker: "a"), from: "a")
        #expect(scene.lease("a") == nil)
        let resumed: PipelineRecord = try scene.ask(.pipelineResume, PipelineName(pipeline: "chain"))
        #expect(resumed.status.state == .active)
        for _ in 0..<3 { try scene.finish("a") }
        #expect(try scene.status().version == 1)
    }

    @Test("three processes that end while they make version 0 end the asking for it")
    func deathsAtFirst() throws {
        var scene = Scene()
        try scene.join("a")
        let id = try scene.say(.pipelineApply, Apply(declaration: HashChain.pipeline()))
        for boot in ["2", "3", "4"] { try scene.join("a", boot: boot) }
        #expect(scene.refusal(id) == .engine)
        #expect(scene.coordinator.creations.isEmpty)
    }

    @Test("an error of the method is confirmed on another worker before the chunk that it names is set aside")
    func confirmed() throws {
        var (scene, _) = try Self.scene()
        try scene.fail("a", .method, position: 2)
        #expect(try scene.status().setAside.chunks == 0)
        #expect(scene.lease("b")?.identity.phase == .fit)
        try scene.fail("b", .method, position: 2)
        #expect(try scene.status().setAside == .init(chunks: 1, rows: 2))
        let again = try #require(scene.coordinator.pipelines.values.first?.round)
        #expect(again.attempt == 1 && again.stretch.chunks.map(\.position) == [1])
    }

    @Test("the same message again confirms nothing; a lone worker confirms by trying once more")
    func notConfirmed() throws {
        var (scene, _) = try Self.scene(workers: ["a"])
        try scene.fail("a", .method, position: 1, id: "f")
        try scene.fail("a", .method, position: 1, id: "f")
        #expect(try scene.status().setAside.chunks == 0)
        try scene.fail("a", .method, position: 1, id: "g")
        #expect(try scene.status().setAside.chunks == 1)
    }

    @Test("an error that names no chunk sets all chunks of the shard aside, and an emptied round makes no version")
    func emptied() throws {
        var (scene, incarnation) = try Self.scene()
        let wait = try scene.say(.await, AwaitPosition(pipeline: "chain", position: 1, timeoutMs: 60_000))
        try scene.fail("a", .method)
        try scene.fail("b", .method)
        #expect(try scene.status().setAside.chunks == 2)
        #expect(try scene.status().version == 0)
        #expect(scene.coordinator.pipelines[incarnation]?.round == nil)
        #expect(try scene.answer(wait, as: Awaited.self) == Awaited(state: .setAside, reason: "diverged: it went wrong"))
        // The next round is version 1.
        for chunk in ["three", "four"] { try scene.push(chunk, incarnation) }
        #expect(scene.coordinator.pipelines[incarnation]?.round?.version == 1)
    }

    @Test("a result for a round that was emptied does not count for the round after it")
    func staleAfterEmptied() throws {
        var (scene, incarnation) = try Self.scene(workers: ["a"])
        let stale = try #require(scene.lease("a")).identity
        for chunk in ["three", "four"] { try scene.push(chunk, incarnation) }
        try scene.say(.chunksSetAside, ChunkPositions(pipeline: "chain", positions: [1, 2]))
        #expect(scene.coordinator.pipelines[incarnation]?.round?.stretch.chunks.map(\.position) == [3, 4])
        try scene.say(.done, LeaseDone(worker: "a", lease: stale, blob: ContentHash(of: Data("stale".utf8))), from: "a")
        #expect(scene.coordinator.pipelines[incarnation]?.round?.step == .fit(sweep: 0))
    }

    @Test("what the surroundings do never counts against the data, and is tried again later and later")
    func environment() throws {
        var (scene, _) = try Self.scene(workers: ["a"])
        for failures in 1...12 {
            try scene.fail("a", .environment)
            scene.forgetSent()
            try scene.pass(ms: 6_000, beating: ["a"])
            #expect(scene.lease("a")?.identity.phase == .fit)
            #expect(try scene.status().reason == (failures < 3 ? nil : "its work fails again and again: it went wrong"))
        }
        #expect(try scene.status().setAside.chunks == 0)
        #expect(try scene.status().state == .active)
        try scene.finish("a")
        #expect(try scene.status().reason == nil)
    }

    @Test("a fit whose steps stand still is taken away although its worker lives")
    func hung() throws {
        var (scene, _) = try Self.scene(workers: ["a"])
        let lease = try #require(scene.lease("a")).identity
        for step in 0..<100 {
            try scene.pass(ms: 1_000)
            try scene.say(.heartbeat, Heartbeat(worker: "a", lease: lease, step: step), from: "a")
        }
        #expect(scene.told("a", .cancel, as: Cancel.self).isEmpty)
        for _ in 0..<61 {
            try scene.pass(ms: 1_000)
            try scene.say(.heartbeat, Heartbeat(worker: "a", lease: lease, step: 99), from: "a")
        }
        #expect(scene.told("a", .cancel, as: Cancel.self).first?.lease == lease)
        scene.forgetSent()
        try scene.say(.ready, Ready(worker: "a"), from: "a")
        try scene.pass(ms: 1_000, beating: ["a"])
        #expect(scene.lease("a")?.identity == lease)
    }

    @Test("a lease that got lost on its way is sent again when its worker asks for one")
    func lostOnItsWay() throws {
        var (scene, _) = try Self.scene(workers: ["a"])
        let lease = try #require(scene.lease("a"))
        scene.forgetSent()
        try scene.say(.ready, Ready(worker: "a"), from: "a")
        #expect(scene.lease("a") == lease)
    }

    @Test("rows whose only holder is away block the pipeline, which says which, where and since when; it goes on by itself")
    func blocked() throws {
        var scene = Scene()
        try scene.join("a")
        try scene.join("b")
        let incarnation = try scene.apply(HashChain.pipeline(chunks: 1))
        try scene.pass(ms: 4_000, beating: ["b"])
        #expect(scene.coordinator.aliveWorkers == ["b"])
        try scene.join("a")
        try scene.push("one", to: "a", incarnation)
        try scene.pass(ms: 8_000, beating: ["b"])
        let status = try scene.status()
        #expect(status.state == .blocked)
        let blocked = try #require(status.blocked)
        #expect(blocked.position == 1 && blocked.chunk == Scene.chunk("one").identity && blocked.worker == "a")
        #expect(blocked.sinceMs < scene.nowMs - 3_000)
        // Pushes go on.
        #expect(try scene.push("two", to: "b", incarnation).position == 2)
        try scene.join("a", boot: "2", holding: [InventoryItem(incarnation: incarnation, chunk: Scene.chunk("one"))])
        try scene.pass(ms: 500, beating: ["a", "b"])
        #expect(try scene.status().state == .active)
    }

    @Test("a version that the store refuses pauses the pipeline")
    func refusedVersion() throws {
        var (scene, _) = try Self.scene(workers: ["a"])
        try scene.finish("a")
        try scene.finish("a")
        scene.refusal = AccrueError(.conflict, while: "publishing", "it does not follow")
        try scene.finish("a")
        #expect(try scene.status().state == .paused)
        #expect(try scene.status().version == 0)
    }
}
