import AccrueClient
import AccrueCoordinator
import AccrueCore
import AccrueTesting
import AccrueWire
import AccrueWorker
import Foundation
import Synchronization
import Testing

/// Coordinator, workers and querier over loopback TCP with CURVE, as on several machines.
@Suite("A cluster with keys", .serialized, .timeLimit(.minutes(10)), .enabled(if: SocketLibrary.hasCurve, "this libzmq has no CURVE"))
struct CurveClusterTests {
    /// The processes of a cluster; each worker with a key of its own.
    final class KeyedCluster: Sendable {
        let home = "/tmp/accrue-kc-\(UUID().uuidString.prefix(8))"
        var folder: KeyFolder { KeyFolder(home: home) }

        init() throws { try folder.prepare() }
        deinit { try? FileManager.default.removeItem(atPath: home) }

        func key(_ name: String, _ role: KeyRole) throws -> ClientKey { try folder.add(name, role: role, writingTo: "\(home)/\(name).key") }

        /// Runs a coordinator, workers of these names and a querier; `body` is told the control endpoint.
        func running(workers: [String], _ body: @escaping @Sendable (String) async throws -> Void) async throws {
            var settings = try CoordinatorSettings(home: home, listen: "tcp://127.0.0.1:*", isCurve: true)
            settings.timing.silenceMs = Waiting.answerMs
            let service = CoordinatorService(settings, report: { _ in }) { Issue.record("\($0)") }
            let (endpoints, endpoint) = AsyncStream<String>.makeStream()
            try await Running.during({ end throws(AccrueError) in try await service.run(ready: { endpoint.yield($0.control) }, until: end) }) {
                var all = endpoints.makeAsyncIterator()
                let control = try #require(await all.next())
                try await withQuerier(control) { try await self.withWorkers(workers, control) { try await body(control) } }
            }
        }

        private func withWorkers(_ names: [String], _ control: String, _ body: @escaping @Sendable () async throws -> Void) async throws {
            guard let name = names.first else { return try await body() }
            var settings = try MemberSettings.worker(coordinator: control, home: "\(home)/\(name)", name: name, listen: "tcp://127.0.0.1:*", key: try key(name, .worker))
            settings.silenceMs = Waiting.answerMs
            let service = WorkerService(settings, catalog: Self.catalog, report: { _ in }) { Issue.record("\($0)") }
            try await Running.during({ end throws(AccrueError) in try await service.run(until: end) }) { try await self.withWorkers(Array(names.dropFirst()), control, body) }
        }

        private func withQuerier(_ control: String, _ body: @escaping @Sendable () async throws -> Void) async throws {
            var settings = try MemberSettings.querier(coordinator: control, home: "\(home)/querier", listen: "tcp://127.0.0.1:*", key: try key("querier", .worker))
            settings.silenceMs = Waiting.answerMs
            let service = QuerierService(settings, catalog: Self.catalog, report: { _ in })
            try await Running.during({ end throws(AccrueError) in try await service.run(until: end) }, body)
        }

        private static var catalog: MethodCatalog { MethodCatalog(["HashChain": { (_, _) throws(AccrueError) in HashChain() }]) }
    }

    /// Connects, and waits for answers as long as it takes.
    private static func open(_ control: String, as key: ClientKey) async throws -> ClusterConnection {
        let patience = Patience(helloMs: Waiting.answerMs, askMs: Waiting.answerMs, applyMs: Waiting.answerMs, absenceMs: Waiting.answerMs)
        return try await ClusterConnection.open(control, as: key, patience: patience)
    }

    /// What a call came to: nil, or the code of its error.
    private static func code(_ body: @Sendable () async throws -> Void) async -> AccrueError.Code? {
        do {
            try await body()
            return nil
        } catch { return (error as? AccrueError)?.code }
    }

    private static func expect(_ code: AccrueError.Code, sourceLocation: SourceLocation = #_sourceLocation, _ body: @Sendable () async throws -> Void) async {
        let came = await Self.code(body)
        #expect(came == code, sourceLocation: sourceLocation)
    }

    /// Calls until the call comes to this.
    private static func wait(for code: AccrueError.Code?, of body: @Sendable () async throws -> Void) async {
        while await Self.code(body) != code {}
    }

    private static func chunk(_ values: [Double]) throws -> OutgoingChunk { OutgoingChunk(bytes: Safetensors(tensors: try HashChain.rows(values).tensors).encode()) }

    @Test("pushed, learned and queried over TCP, the bytes are those of the fold in one process; rows travel between workers")
    func endToEnd() async throws {
        let cluster = try KeyedCluster(), chunks: [[Double]] = [[1, 2, 3], [4, 5], [6], [7, 8, 9, 10]]
        let admin = try ClientKey(file: cluster.folder.file(of: KeyFolder.ownerName))
        let producer = try cluster.key("producer", .producer), reader = try cluster.key("reader", .reader)
        // One chunk a round and more shards than workers: each worker fits rows that the other took.
        let pipeline = HashChain.pipeline(seed: 7, chunks: 1, shards: 3, sweeps: 2)
        try await cluster.running(workers: ["a", "b"]) { control in
            let owner = try await Self.open(control, as: admin)
            while owner.endpoints.ingest.count < 2 || owner.endpoints.query.isEmpty { try await owner.refresh() }
            #expect((owner.endpoints.ingest + owner.endpoints.query + [owner.endpoints.bulk, owner.endpoints.events]).allSatisfy { $0.contains("?key=") })
            _ = try await owner.apply(pipeline)
            let pushing = try await Self.open(control, as: producer), asking = try await Self.open(control, as: reader)
            for (index, values) in chunks.enumerated() {
                let position = try await pushing.push(try Self.chunk(values), to: "chain", turn: index).position
                #expect(try await pushing.outcome(ofPosition: position, in: "chain").state == .absorbed)
            }
            let newest = try await asking.version(nil, of: "chain")
            #expect(try await asking.state(of: newest) == (try Cluster.expected(pipeline, chunks)))
            let answer = try await asking.query(PosteriorQuestion(pipeline: "chain", content: QueryBytes(verb: "show", header: [:], tensors: [:]), at: newest.version))
            #expect(answer.reply.version == chunks.count && answer.reply.absorbedRows == 10)

            // What others may not do they are told so, on every socket.
            await Self.expect(.unauthorised) { try await pushing.delete("chain") }
            await Self.expect(.unauthorised) { _ = try await pushing.version(nil, of: "chain") }
            await Self.expect(.unauthorised) { _ = try await pushing.state(of: newest) }
            await Self.expect(.unauthorised) { _ = try await pushing.query(PosteriorQuestion(pipeline: "chain", content: QueryBytes(verb: "show", header: [:], tensors: [:]))) }
            await Self.expect(.unauthorised) { _ = try await asking.push(try Self.chunk([1]), to: "chain") }
            await Self.expect(.unauthorised) { _ = try await asking.flush("chain") }
            await Self.expect(.unauthorised) { _ = try await asking.apply(pipeline) }
            for cluster in [owner, pushing, asking] { cluster.close() }
        }
    }

    @Test("a revoked key is refused by the coordinator, the workers and the querier, on connections that are open; others go on")
    func revoked() async throws {
        let cluster = try KeyedCluster()
        let admin = try ClientKey(file: cluster.folder.file(of: KeyFolder.ownerName))
        let eve = try cluster.key("eve", .admin)
        try await cluster.running(workers: ["a"]) { control in
            let owner = try await Self.open(control, as: admin), revoked = try await Self.open(control, as: eve)
            while owner.endpoints.ingest.isEmpty || owner.endpoints.query.isEmpty { try await owner.refresh() }
            _ = try await owner.apply(HashChain.pipeline(chunks: 1))
            let question = PosteriorQuestion(pipeline: "chain", content: QueryBytes(verb: "show", header: [:], tensors: [:]))
            _ = try await revoked.push(try Self.chunk([1]), to: "chain")
            _ = try await revoked.query(question)
            _ = try cluster.folder.revoke("eve")
            // Each of the three processes hears of it within seconds.
            await Self.wait(for: .unauthorised) { _ = try await revoked.status() }
            await Self.wait(for: .unauthorised) { _ = try await revoked.push(try Self.chunk([1]), to: "chain") }
            await Self.wait(for: .unauthorised) { _ = try await revoked.query(question) }
            await Self.expect(.unauthorised) { _ = try await ClusterConnection.open(control, as: eve) }
            _ = try await owner.push(try Self.chunk([3]), to: "chain")
            // Who is let in later needs no restart of anything.
            let bob = try cluster.key("bob", .producer)
            await Self.wait(for: nil) { try await ClusterConnection.open(control, as: bob).close() }
            let late = try await Self.open(control, as: bob)
            #expect(try await late.push(try Self.chunk([4]), to: "chain").position == 3)
            for cluster in [owner, revoked, late] { cluster.close() }
        }
    }

    @Test("ten thousand random messages to the coordinator and a worker, and a worker's key that takes another's name: nothing breaks")
    func hostile() async throws {
        let cluster = try KeyedCluster()
        let admin = try ClientKey(file: cluster.folder.file(of: KeyFolder.ownerName)), evil = try cluster.key("evil", .worker)
        try await cluster.running(workers: ["a"]) { control in
            let owner = try await Self.open(control, as: admin)
            while owner.endpoints.ingest.isEmpty { try await owner.refresh() }
            _ = try await owner.apply(HashChain.pipeline(chunks: 1))
            let loop = try SocketLoop(as: evil.pair)
            let requester = try Requester(loop, name: "evil", to: try evil.endpoint(control), routingID: Data("w-a".utf8))
            let hello = try Message(.hello, encoding: Hello(role: .worker, name: "a", boot: "x", endpoint: "ipc:///tmp/nowhere"))
            await Self.expect(.unauthorised) { _ = try await requester.patiently(hello) }
            await Self.expect(.notFound) { _ = try await requester.patiently(try Message(.heartbeat, encoding: Heartbeat(worker: "a"))) }
            var messages = HostileMessages(seed: 7, verbs: Verb.allCases.map(\.rawValue))
            for text in [control, owner.endpoints.ingest[0]] {
                let endpoint = try KeyedEndpoint(parsing: try evil.endpoint(text))
                let dealer = try RawDealer(
                    endpoint.address, serverKey: endpoint.serverKey?.text, publicKey: evil.pair.publicKey.text, secretKey: evil.pair.secretKey)
                for _ in 0..<10_000 { dealer.send(messages.next()) }
                dealer.close()
                for seed in 0..<20 { try RawConnection.throwBytes(at: endpoint.address, seed: UInt64(seed)) }
            }
            let position = try await owner.push(try Self.chunk([1]), to: "chain").position
            #expect(try await owner.outcome(ofPosition: position, in: "chain").state == .absorbed)
            #expect(try await owner.status().workers.filter(\.alive).contains { $0.name == "a" })
            loop.stop()
            owner.close()
        }
    }
}
