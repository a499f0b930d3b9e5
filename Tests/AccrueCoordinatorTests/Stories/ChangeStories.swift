import AccrueCore
import AccrueTesting
import AccrueWire
import Foundation
import Testing

@testable import AccrueCoordinator

@Suite("Imports and appended classes at the coordinator")
struct ChangeStories {
    private static let file = ContentHash(of: Data("net".utf8))
    private static let request = PosteriorImport(pipeline: "chain", hash: file)

    private static func pipeline(_ classes: [String] = ["a", "b"]) -> PipelineDeclaration { HashChain.pipeline().with(schema: HashChain.schema(classes: classes)) }

    /// A worker and a pipeline at version 0.
    private static func scene() throws -> (Scene, String) {
        var scene = Scene()
        try scene.join("a")
        let incarnation = try scene.apply(pipeline())
        return (scene, incarnation)
    }

    @Test("an import is tried first, then committed, then made; whoever asked is told where it stands once it is committed")
    func importing() throws {
        var (scene, incarnation) = try Self.scene()
        try scene.push("one", incarnation)
        let id = try scene.say(.posteriorImport, Self.request)
        #expect(scene.lease("a")?.identity.phase == .check && scene.lease("a")?.imported == Self.file && !scene.isAnswered(id))
        try scene.finish("a")
        #expect(try scene.answer(id, as: Imported.self) == Imported(position: 2, duplicate: false))
        // The open round is ended by it and comes first.
        for phase in [LeasePhase.fit, .merge, .finish, .adopt] {
            #expect(scene.lease("a")?.identity.phase == phase)
            try scene.finish("a")
        }
        #expect(try scene.status().version == 2)
        #expect(try scene.ask(.await, AwaitPosition(pipeline: "chain", position: 2, timeoutMs: 0), as: Awaited.self).version == 2)
    }

    @Test("the same import again is where it was; under another key it is meant again")
    func again() throws {
        var (scene, _) = try Self.scene()
        try scene.say(.posteriorImport, Self.request)
        try scene.finish("a")
        try scene.finish("a")
        #expect(try scene.ask(.posteriorImport, Self.request, as: Imported.self) == Imported(position: 1, duplicate: true))
        let id = try scene.say(.posteriorImport, PosteriorImport(pipeline: "chain", hash: Self.file, key: "once more"))
        try scene.finish("a")
        #expect(try scene.answer(id, as: Imported.self) == Imported(position: 2, duplicate: false))
    }

    @Test("what the method refuses is refused in its words and leaves no trace; so is a file that is not there any more")
    func refused() throws {
        var (scene, _) = try Self.scene()
        let id = try scene.say(.posteriorImport, Self.request)
        try scene.fail("a", .method)
        #expect(scene.refusal(id) == .diverged)
        let lost = try scene.say(.posteriorImport, Self.request)
        let task = try #require(scene.lease("a"))
        let error = AccrueError(.notFound, while: "reading a blob", "it is not here")
        try scene.say(.failed, LeaseFailed(worker: "a", lease: task.identity, kind: .environment, error: error), from: "a")
        #expect(scene.refusal(lost) == .unavailable)
        #expect(try scene.status().position == 0)
    }

    @Test("an import that fails after it was tried, confirmed once more, is set aside, and learning goes on")
    func setAside() throws {
        var (scene, incarnation) = try Self.scene()
        try scene.say(.posteriorImport, Self.request)
        try scene.finish("a")
        try scene.fail("a", .method)
        try scene.fail("a", .method)
        #expect(try scene.ask(.await, AwaitPosition(pipeline: "chain", position: 1, timeoutMs: 0), as: Awaited.self).state == .setAside)
        for name in ["one", "two"] { try scene.push(name, incarnation) }
        for _ in 0..<3 { try scene.finish("a") }
        #expect(try scene.status().version == 1)
    }

    @Test("a pipeline applied again with more classes gets them in a version of its own; chunks before are learned with the old schema")
    func classes() throws {
        var (scene, incarnation) = try Self.scene()
        try scene.push("one", incarnation)
        let later = Self.pipeline(["a", "b", "c"])
        let id = try scene.say(.pipelineApply, Apply(declaration: later))
        #expect(scene.lease("a")?.identity.phase == .check && scene.lease("a")?.from == Self.pipeline().schema)
        try scene.finish("a")
        #expect(try scene.answer(id, as: Applied.self).position == 2)
        #expect(try scene.ask(.pipelineShow, PipelineName(pipeline: "chain"), as: PipelineRecord.self).declaration == later)
        for phase in [LeasePhase.fit, .merge, .finish] {
            #expect(scene.lease("a")?.identity.phase == phase && scene.lease("a")?.declaration == Self.pipeline())
            try scene.finish("a")
        }
        #expect(scene.lease("a")?.identity.phase == .adapt && scene.lease("a")?.declaration == later && scene.lease("a")?.from == Self.pipeline().schema)
        try scene.finish("a")
        func schema(at version: Int) throws -> Schema? { try scene.ask(.posteriorShow, PosteriorQuery(pipeline: "chain", at: version), as: PosteriorRecord.self).schema }
        #expect(try schema(at: 1) == Self.pipeline().schema && schema(at: 2) == later.schema)
        #expect(try scene.refused(.chunksSetAside, ChunkPositions(pipeline: "chain", positions: [2])) == .conflict)
    }

    @Test("any other change is refused, naming what differs")
    func differences() throws {
        var (scene, _) = try Self.scene()
        var other = Self.pipeline(["a", "b", "c"])
        other.seed = 99
        let id = try scene.say(.pipelineApply, Apply(declaration: other))
        let problem = scene.sent.last { $0.message.id == id }?.message.refusal?.problem ?? ""
        #expect(scene.refusal(id) == .conflict && problem.contains("seed") && problem.contains("schema"))
        #expect(try scene.refused(.pipelineApply, Apply(declaration: Self.pipeline(["b", "a", "c"]))) == .conflict)
    }
}
