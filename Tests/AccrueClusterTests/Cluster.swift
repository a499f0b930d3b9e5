import AccrueCoordinator
import AccrueCore
import AccrueTesting
import AccrueWire
import AccrueWorker
import Foundation
import Synchronization
import Testing

/// A whole cluster in one process: real sockets, real disks, real rounds; only the learning method is one whose state shows what was folded.
final class Cluster: Sendable {
    let home: String
    let method: HashChain
    private let loop: SocketLoop
    let control: Requester

    private let silenceMs: Int

    /// - Parameter silenceMs: after which a worker counts as gone; no worker does by being slow, unless said otherwise.
    init(method: HashChain = HashChain(), silenceMs: Int = Waiting.answerMs) throws {
        self.silenceMs = silenceMs
        home = "/tmp/accrue-c-\(UUID().uuidString.prefix(8))"
        self.method = method
        loop = try SocketLoop()
        control = try Requester(loop, name: "control", to: "ipc://\(home)/run/control.sock")
    }

    deinit {
        loop.stop()
        try? FileManager.default.removeItem(atPath: home)
    }

    func worker(_ name: String) throws -> Requester {
        try Requester(loop, name: UUID().uuidString, to: "ipc://\(home)/\(name)/run/ingest-\(name).sock", traffic: .bulk)
    }

    func querier() throws -> Requester { try Requester(loop, name: UUID().uuidString, to: "ipc://\(home)/querier/run/query.sock") }

    func bulk() async throws -> Requester {
        let welcome = try await control.askPatiently(.hello, Hello(role: .client), as: Welcome.self)
        return try Requester(loop, name: UUID().uuidString, to: welcome.endpoints.bulk, traffic: .bulk)
    }

    /// Runs a coordinator until `body` returns.
    func withCoordinator<Value: Sendable>(_ body: @Sendable () async throws -> Value) async throws -> Value {
        var settings = try CoordinatorSettings(home: home)
        settings.timing.silenceMs = silenceMs
        let service = CoordinatorService(settings, report: { _ in }) { Issue.record("the coordinator ended: \($0)") }
        return try await Running.during({ end throws(AccrueError) in try await service.run(ready: { _ in }, until: end) }, body)
    }

    func withWorkers<Value: Sendable>(_ names: [String], _ body: @escaping @Sendable () async throws -> Value) async throws -> Value {
        guard let name = names.first else { return try await body() }
        let catalog = catalog
        var settings = try MemberSettings.worker(coordinator: control.endpoint, home: "\(home)/\(name)", name: name)
        settings.silenceMs = silenceMs
        let service = WorkerService(settings, catalog: catalog, report: { _ in }) { Issue.record("the worker ended: \($0)") }
        return try await Running.during({ end throws(AccrueError) in try await service.run(until: end) }) { try await self.withWorkers(Array(names.dropFirst()), body) }
    }

    func withQuerier<Value: Sendable>(_ body: @escaping @Sendable () async throws -> Value) async throws -> Value {
        var settings = try MemberSettings.querier(coordinator: control.endpoint, home: "\(home)/querier")
        settings.silenceMs = silenceMs
        let service = QuerierService(settings, catalog: catalog, report: { _ in })
        return try await Running.during({ end throws(AccrueError) in try await service.run(until: end) }, body)
    }

    private var catalog: MethodCatalog {
        let method = method
        return MethodCatalog(["HashChain": { (_, _) throws(AccrueError) in method }])
    }

    // What clients do.

    func apply(_ pipeline: PipelineDeclaration) async throws {
        _ = try await control.askPatiently(.pipelineApply, Apply(declaration: pipeline), as: Applied.self)
    }

    func push(_ values: [Double], key: String? = nil, to worker: Requester) async throws -> Acknowledgement {
        let bytes = Safetensors(tensors: try HashChain.rows(values).tensors).encode()
        return try await worker.patiently(try Message(.push, encoding: Push(pipeline: "chain", key: key), payload: [bytes])).read()
    }

    func pushInPieces(_ values: [Double], to worker: Requester) async throws -> Acknowledgement {
        let bytes = Safetensors(tensors: try HashChain.rows(values).tensors).encode()
        return try await worker.sendChunk(bytes, header: Push(pipeline: "chain", hash: ContentHash(of: bytes)), timeoutMs: Waiting.answerMs).read()
    }

    func flush() async throws { _ = try await control.askPatiently(.flush, PipelineName(pipeline: "chain"), as: Flushed.self) }

    func awaited(_ position: Int) async throws -> Awaited {
        try await control.askPatiently(.await, AwaitPosition(pipeline: "chain", position: position, timeoutMs: Waiting.answerMs), as: Awaited.self)
    }

    func newest() async throws -> PosteriorRecord { try await control.askPatiently(.posteriorShow, PosteriorQuery(pipeline: "chain"), as: PosteriorRecord.self) }

    func status() async throws -> PipelineStatus {
        let status = try await control.askPatiently(.status, [String: String](), as: ClusterStatus.self)
        return try #require(status.pipelines.first)
    }

    /// The bytes that the same rows give in one process.
    static func expected(_ pipeline: PipelineDeclaration, _ chunks: [[Double]]) throws -> Data {
        let rows = try HashChain.rows(chunks.flatMap(\.self))
        var ranges: [Range<Int>] = []
        for chunk in chunks { ranges.append((ranges.last?.upperBound ?? 0)..<(ranges.last?.upperBound ?? 0) + chunk.count) }
        let run = LocalRun(pipeline: pipeline, method: HashChain(), rows: rows, chunks: ranges)
        return try run.run { (_) throws(AccrueError) in }.state
    }
}
