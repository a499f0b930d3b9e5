import AccrueCore
import AccrueStore
import AccrueTesting
import AccrueWire
import Foundation
import Testing

@testable import AccrueCoordinator

@Suite("Pipelines: what enters the log, and who is told")
struct PipelineStories {
    /// Worker "a" and a pipeline.
    private static func scene(_ pipeline: PipelineDeclaration = HashChain.pipeline(chunks: 2)) throws -> (scene: Scene, incarnation: String) {
        var scene = Scene()
        try scene.join("a")
        let incarnation = try scene.apply(pipeline)
        return (scene, incarnation)
    }

    private static func code(_ body: () throws -> Void) -> AccrueError.Code? {
        do { try body() } catch { return (error as? AccrueError)?.code }
        return nil
    }

    // Pushes.

    @Test("a chunk is acknowledged with its position; again it is a duplicate; its key with other content is a conflict")
    func identity() throws {
        var (scene, incarnation) = try Self.scene()
        #expect(try scene.push("one", key: "k", incarnation) == Acknowledgement(chunk: Scene.chunk("one").identity, position: 1, duplicate: false))
        #expect(try scene.push("one", key: "k", incarnation) == Acknowledgement(chunk: Scene.chunk("one").identity, position: 1, duplicate: true))
        #expect(Self.code { try scene.push("two", key: "k", incarnation) } == .conflict)
        #expect(try scene.push("one", key: "other", incarnation).position == 2)
    }

    @Test("nothing is acknowledged before it is committed")
    func committedFirst() throws {
        var (scene, incarnation) = try Self.scene()
        scene.isSlow = true
        let id = try scene.say(.announce, Announce(worker: "a", pipeline: "chain", incarnation: incarnation, items: [.init(Scene.chunk("one"))]), from: "a")
        #expect(!scene.isAnswered(id))
        #expect(try scene.status().position == 0)
        scene.store()
        #expect(try scene.acknowledgement(id, "one").position == 1)
    }

    @Test("a worker that is not joined is told to come again, and one that announces for a pipeline that is gone that it is gone")
    func strangers() throws {
        var (scene, incarnation) = try Self.scene()
        let stranger = Announce(worker: "b", pipeline: "chain", incarnation: incarnation, items: [.init(Scene.chunk("one"))])
        #expect(try scene.refused(.announce, stranger, from: "b") == .unavailable)
        let gone = Announce(worker: "a", pipeline: "chain", incarnation: "gone", items: [.init(Scene.chunk("one"))])
        #expect(try scene.refused(.announce, gone, from: "a") == .notFound)
    }

    @Test("with two replicas wanted, a chunk enters the log when two workers that are alive hold it, and both may give it up when it is absorbed")
    func replicas() throws {
        var (scene, incarnation) = try Self.scene(HashChain.pipeline(chunks: 1, replicas: 2))
        func announce(_ replicas: [Replica]?) -> Announce {
            Announce(worker: "a", pipeline: "chain", incarnation: incarnation, items: [.init(Scene.chunk("one"), replicas: replicas)])
        }
        func b(_ boot: String) -> Replica { Replica(worker: "b", boot: boot) }
        func code(_ announce: Announce) throws -> AccrueError.Code? { try scene.ask(.announce, announce, as: AnnounceReply.self, from: "a").results.first?.error?.code }
        for replicas in [nil, [], [Replica(worker: "a", boot: "1")], [b("1")]] {
            #expect(try code(announce(replicas)) == .unavailable)
        }
        try scene.join("b", boot: "2")
        #expect(try code(announce([b("1")])) == .unavailable)
        #expect(try scene.status().position == 0)
        #expect(try scene.ask(.announce, announce([b("2")]), as: AnnounceReply.self, from: "a").results == [.taken(at: 1, duplicate: false)])
        while try scene.status().version == 0 { for worker in ["a", "b"] where scene.lease(worker) != nil { try scene.finish(worker) } }
        #expect(try scene.status().version == 1)
        for worker in ["a", "b"] { #expect(scene.told(worker, .drop, as: Drop.self).map(\.identity) == [Scene.chunk("one").identity]) }
    }

    @Test("with too many chunks waiting, pushes are told to come later")
    func busy() throws {
        let identity = Scene.chunk("same").identity
        let entries = (1...Limits.waitingChunksMax).map { LogEntry(position: $0, kind: .chunk(.init(identity: identity, key: "\($0)", rows: 1, bytes: 8))) }
        let stored = StoredPipeline.test(HashChain.pipeline(chunks: 2))
        var scene = Scene(recovered: [RecoveredPipeline(stored: stored, entries: entries, versions: [.first], holders: [:])])
        try scene.join("a")
        let id = try scene.say(.announce, Announce(worker: "a", pipeline: "chain", incarnation: "i", items: [.init(Scene.chunk("new"))]), from: "a")
        #expect(try scene.answer(id, as: AnnounceReply.self).results.map(\.error?.code) == [.unavailable])
    }

    @Test("chunks announced together enter the log in their order, each with its own result")
    func together() throws {
        var limited = HashChain.pipeline(chunks: 10)
        limited.limits = .init(waitingChunks: 4)
        var (scene, incarnation) = try Self.scene(limited)
        try scene.push("one", key: "k", incarnation)
        let chunks = [Scene.chunk("two"), Scene.chunk("other", key: "k"), Scene.chunk("one", key: "k"), Scene.chunk("two"), Scene.chunk("three")]
        let announce = Announce(worker: "a", pipeline: "chain", incarnation: incarnation, items: chunks.map { .init($0) })
        let results = try scene.ask(.announce, announce, as: AnnounceReply.self, from: "a").results
        #expect(results.map(\.position) == [2, nil, 1, nil, nil] && results.map(\.error?.code) == [nil, .conflict, nil, .unavailable, .unavailable])
        #expect(results[2].duplicate == true)
        #expect(try scene.refused(.announce, Announce(worker: "a", pipeline: "chain", incarnation: incarnation, items: []), from: "a") == .limitExceeded)
    }

    @Test("a chunk that is absorbed already is acknowledged as a duplicate, and its bytes may go")
    func absorbedDuplicate() throws {
        var (scene, incarnation) = try Self.scene(HashChain.pipeline(chunks: 1))
        try scene.push("one", incarnation)
        for _ in 0..<3 { try scene.finish("a") }
        try scene.join("b")
        #expect(try scene.push("one", to: "b", incarnation).duplicate)
        #expect(scene.told("b", .drop, as: Drop.self) == [Drop(incarnation: incarnation, identity: Scene.chunk("one").identity)])
    }

    // Inventories.

    @Test("each item of an inventory is told what becomes of it")
    func verdicts() throws {
        var (scene, incarnation) = try Self.scene(HashChain.pipeline(chunks: 1))
        try scene.push("absorbed", incarnation)
        for _ in 0..<3 { try scene.finish("a") }
        for chunk in ["aside", "waiting"] { try scene.push(chunk, incarnation) }
        try scene.say(.chunksSetAside, ChunkPositions(pipeline: "chain", positions: [2]))
        try scene.say(.hello, Hello(role: .worker, name: "b", boot: "1", endpoint: "at-b"), from: "b")
        let items = ["absorbed", "aside", "waiting", "new"].map { InventoryItem(incarnation: incarnation, chunk: Scene.chunk($0)) }
        let gone = InventoryItem(incarnation: "gone", chunk: Scene.chunk("waiting"))
        let reply: InventoryReply = try scene.ask(.inventory, Inventory(worker: "b", page: 0, last: true, items: items + [gone]), from: "b")
        #expect(reply.verdicts == [.drop, .keep, .located, .appended, .drop])
        #expect(try scene.status().position == 5)
        let listing: ChunkListing = try scene.ask(.chunksList, ChunksQuery(pipeline: "chain"))
        #expect(listing.chunks.map(\.workers) == [[], ["a", "b"], ["a", "b"], ["b"]])
    }

    @Test("the answer to a page waits until what was never announced is committed")
    func slowInventory() throws {
        var (scene, incarnation) = try Self.scene()
        scene.isSlow = true
        let items = [InventoryItem(incarnation: incarnation, chunk: Scene.chunk("new"))]
        let id = try scene.say(.inventory, Inventory(worker: "a", page: 0, last: true, items: items), from: "a")
        #expect(!scene.isAnswered(id))
        scene.store()
        #expect(try scene.answer(id, as: InventoryReply.self).verdicts == [.appended])
    }

    @Test("what a whole inventory does not name is not there any more; the same page again takes nothing away")
    func untold() throws {
        var (scene, incarnation) = try Self.scene(HashChain.pipeline(chunks: 4))
        for chunk in ["one", "two"] { try scene.push(chunk, incarnation) }
        let items = [InventoryItem(incarnation: incarnation, chunk: Scene.chunk("one"))]
        try scene.join("a", boot: "2", holding: items)
        try scene.push("three", incarnation)
        let page = Inventory(worker: "a", page: 0, last: true, items: items)
        for _ in 0..<2 { try scene.say(.inventory, page, from: "a") }
        let listing: ChunkListing = try scene.ask(.chunksList, ChunksQuery(pipeline: "chain"))
        #expect(listing.chunks.map(\.workers) == [["a"], [], ["a"]])
    }

    // Rounds.

    @Test("a flush ends the open round; without open chunks it does nothing")
    func flush() throws {
        var (scene, incarnation) = try Self.scene(HashChain.pipeline(chunks: 4))
        #expect(try scene.ask(.flush, PipelineName(pipeline: "chain"), as: Flushed.self).position == nil)
        try scene.push("one", incarnation)
        #expect(try scene.ask(.flush, PipelineName(pipeline: "chain"), as: Flushed.self).position == 2)
        #expect(try scene.ask(.flush, PipelineName(pipeline: "chain"), as: Flushed.self).position == nil)
        #expect(scene.lease("a")?.rows.map(\.position) == [1])
    }

    @Test("the linger timer ends a round whose first chunk has waited long enough, once")
    func linger() throws {
        var pipeline = HashChain.pipeline(chunks: 4)
        pipeline.round.linger = 10
        var (scene, incarnation) = try Self.scene(pipeline)
        try scene.push("one", incarnation)
        try scene.pass(ms: 6_000, beating: ["a"])
        try scene.push("two", incarnation)
        #expect(try scene.status().position == 2)
        try scene.pass(ms: 4_000, beating: ["a"])
        #expect(try scene.status().position == 3)
        try scene.pass(ms: 60_000, beating: ["a"])
        #expect(try scene.status().position == 3)
    }

    @Test("whoever awaits a chunk is answered when it is absorbed, or told in time to wait on")
    func await() throws {
        var (scene, incarnation) = try Self.scene(HashChain.pipeline(chunks: 1))
        try scene.push("one", incarnation)
        let short = try scene.say(.await, AwaitPosition(pipeline: "chain", position: 1, timeoutMs: 2_000))
        let long = try scene.say(.await, AwaitPosition(pipeline: "chain", position: 1, timeoutMs: 20_000))
        try scene.pass(ms: 3_000, beating: ["a"])
        #expect(try scene.answer(short, as: Awaited.self) == Awaited(state: .waiting))
        #expect(!scene.isAnswered(long))
        for _ in 0..<3 { try scene.finish("a") }
        #expect(try scene.answer(long, as: Awaited.self) == Awaited(state: .absorbed, version: 1))
        #expect(try scene.ask(.await, AwaitPosition(pipeline: "chain", position: 1, timeoutMs: 1), as: Awaited.self).version == 1)
        #expect(try scene.refused(.await, AwaitPosition(pipeline: "chain", position: 9, timeoutMs: 1)) == .notFound)
    }

    @Test("a chunk set aside during its round starts the round again without it; retried, it comes at a new position")
    func setAsideAndRetry() throws {
        var (scene, incarnation) = try Self.scene()
        for chunk in ["one", "two"] { try scene.push(chunk, incarnation) }
        let lease = try #require(scene.lease("a")).identity
        #expect(try scene.ask(.chunksSetAside, ChunkPositions(pipeline: "chain", positions: [1]), as: PositionsReply.self).positions == [1])
        #expect(scene.told("a", .cancel, as: Cancel.self).last?.lease == lease)
        try scene.say(.ready, Ready(worker: "a"), from: "a")
        #expect(scene.lease("a")?.identity.attempt == 1)
        #expect(scene.lease("a")?.rows.map(\.position) == [2])
        #expect(try scene.ask(.chunksRetry, ChunkPositions(pipeline: "chain", positions: [1]), as: PositionsReply.self).positions == [4])
        for _ in 0..<3 { try scene.finish("a") }
        #expect(try scene.refused(.chunksSetAside, ChunkPositions(pipeline: "chain", positions: [2])) == .conflict)
        #expect(try scene.status().waiting.chunks == 1)
    }

    @Test("a chunk set aside while its version is on its way to the store is too late")
    func tooLate() throws {
        var (scene, incarnation) = try Self.scene(HashChain.pipeline(chunks: 1))
        try scene.push("one", incarnation)
        try scene.finish("a")
        try scene.finish("a")
        scene.isSlow = true
        try scene.finish("a")
        let id = try scene.say(.chunksSetAside, ChunkPositions(pipeline: "chain", positions: [1]))
        #expect(try scene.status().version == 0)
        scene.store()
        #expect(scene.refusal(id) == .conflict)
        #expect(try scene.status().version == 1)
        #expect(try scene.status().absorbed.chunks == 1)
    }

    @Test("what the finish of a round remarks is an event once the version exists; remarks of other pieces are not")
    func remarks() throws {
        var (scene, incarnation) = try Self.scene(HashChain.pipeline(chunks: 1))
        let drift = [Remark(kind: .drift, text: "it fell")]
        try scene.push("one", incarnation)
        for _ in 0..<2 { try scene.finish("a", remarks: drift) }
        func events() throws -> [EventRecord] { try scene.ask(.events, EventsQuery(after: 0), as: EventListing.self).events }
        #expect(try events().allSatisfy { $0.kind != "drift" })
        scene.isSlow = true
        try scene.finish("a", remarks: drift)
        #expect(try events().allSatisfy { $0.kind != "drift" && $0.kind != "version" })
        scene.store()
        #expect(try events().suffix(2).map(\.kind) == ["version", "drift"])
        #expect(try events().last?.text == "version 1: it fell")
        scene.isSlow = false
        try scene.push("two", incarnation)
        for _ in 0..<3 { try scene.finish("a") }
        #expect(try events().last?.kind == "version")
    }

    // Their beginning and end.

    @Test("a pipeline declared again is the same; declared otherwise it is refused")
    func applyAgain() throws {
        var (scene, incarnation) = try Self.scene()
        #expect(try scene.ask(.pipelineApply, Apply(declaration: HashChain.pipeline(chunks: 2)), as: Applied.self) == Applied(name: "chain", incarnation: incarnation, version: 0))
        #expect(try scene.refused(.pipelineApply, Apply(declaration: HashChain.pipeline(chunks: 3))) == .conflict)
    }

    @Test("two who apply the same at once get the same; settings that the method refuses are refused to both")
    func applyTogether() throws {
        var scene = Scene()
        try scene.join("a")
        let asked = try (0..<2).map { _ in try scene.say(.pipelineApply, Apply(declaration: HashChain.pipeline())) }
        try scene.fail("a", .method)
        #expect(asked.map { scene.refusal($0) } == [.diverged, .diverged])
        let again = try (0..<2).map { _ in try scene.say(.pipelineApply, Apply(declaration: HashChain.pipeline())) }
        try scene.finish("a")
        #expect(try scene.answer(again[0], as: Applied.self) == scene.answer(again[1], as: Applied.self))
    }

    @Test("without a worker nothing can be applied, and when the last one goes those who wait are told")
    func nobody() throws {
        var scene = Scene()
        #expect(try scene.refused(.pipelineApply, Apply(declaration: HashChain.pipeline())) == .unavailable)
        try scene.join("a")
        let id = try scene.say(.pipelineApply, Apply(declaration: HashChain.pipeline()))
        try scene.pass(ms: 4_000)
        #expect(scene.refusal(id) == .unavailable)
    }

    @Test("deleting a pipeline ends its leases, lets its bytes go and tells all who wait")
    func delete() throws {
        var (scene, incarnation) = try Self.scene(HashChain.pipeline(chunks: 1))
        try scene.push("one", incarnation)
        let lease = try #require(scene.lease("a")).identity
        let wait = try scene.say(.await, AwaitPosition(pipeline: "chain", position: 1, timeoutMs: 60_000))
        scene.isSlow = true
        let deleted = try scene.say(.pipelineDelete, PipelineName(pipeline: "chain"))
        let behind = try scene.say(.announce, Announce(worker: "a", pipeline: "chain", incarnation: incarnation, items: [.init(Scene.chunk("two"))]), from: "a")
        scene.store()
        #expect(scene.isAnswered(deleted) && scene.refusal(deleted) == nil)
        #expect(scene.refusal(wait) == .notFound)
        #expect(try scene.answer(behind, as: AnnounceReply.self).results.map(\.error?.code) == [.notFound])
        #expect(scene.told("a", .cancel, as: Cancel.self).last?.lease == lease)
        #expect(scene.told("a", .drop, as: Drop.self).map(\.identity) == [Scene.chunk("one").identity])
        #expect(scene.coordinator.status.pipelines.isEmpty)
        #expect(try scene.refused(.flush, PipelineName(pipeline: "chain")) == .notFound)
    }

    @Test("a restarted coordinator goes on where truth stands, over rounds that were left without chunks")
    func recovered() throws {
        func entry(_ position: Int, _ kind: LogEntry.Kind) -> LogEntry { LogEntry(position: position, kind: kind) }
        let entries = [
            entry(1, .chunk(Scene.chunk("one"))), entry(2, .chunk(Scene.chunk("two"))), entry(3, .setAside(positions: [1, 2], reason: "bad")),
            entry(4, .chunk(Scene.chunk("three"))), entry(5, .cut), entry(6, .chunk(Scene.chunk("four"))),
        ]
        let second = VersionRecord(version: 1, state: VersionRecord.first.state, through: 5, absorbedChunks: 1, absorbedRows: 2)
        let recovered = RecoveredPipeline(
            stored: .test(HashChain.pipeline(chunks: 2), paused: nil), entries: entries, versions: [.first, second], holders: [Scene.chunk("four").identity: ["a"]])
        var scene = Scene(recovered: [recovered])
        try scene.join("a", holding: [InventoryItem(incarnation: "i", chunk: Scene.chunk("four"))])
        let status = try scene.status()
        #expect(status.version == 1 && status.absorbed.chunks == 1 && status.setAside.chunks == 2 && status.waiting.chunks == 1)
        #expect(try scene.push("five", "i").position == 7)
        #expect(scene.lease("a")?.identity.version == 2)
        #expect(scene.lease("a")?.rowsBefore == 2)
        #expect(scene.lease("a")?.rows.map(\.position) == [6, 7])
    }
}

extension StoredPipeline {
    static func test(_ declaration: PipelineDeclaration, paused: String? = nil) -> StoredPipeline {
        StoredPipeline(incarnation: "i", declaration: declaration, phases: MethodPhases(scores: false, statistics: false), paused: paused)
    }
}

extension VersionRecord {
    static var first: VersionRecord { VersionRecord(version: 0, state: ContentHash(of: .init()), through: 0, absorbedChunks: 0, absorbedRows: 0) }
}
