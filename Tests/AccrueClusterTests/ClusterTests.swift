import AccrueCore
import AccrueTesting
import AccrueWire
import Foundation
import Testing

@Suite("A cluster turns pushes into versions", .timeLimit(.minutes(10)))
struct ClusterTests {
    static let chunks: [[Double]] = [[1, 2, 3], [4, 5], [6], [7, 8, 9, 10], [11, 12, 13]]

    @Test("one worker and three workers give the bytes of the fold in one process", arguments: [["a"], ["a", "b", "c"]])
    func sameBytes(workers: [String]) async throws {
        let cluster = try Cluster()
        let pipeline = HashChain.pipeline(seed: 7, chunks: 2, shards: 3, sweeps: 2)
        try await cluster.withCoordinator {
            try await cluster.withWorkers(workers) {
                try await cluster.apply(pipeline)
                var last: Acknowledgement?
                for (index, values) in Self.chunks.enumerated() {
                    last = try await cluster.push(values, to: try cluster.worker(workers[index % workers.count]))
                    #expect(last?.position == index + 1 && last?.duplicate == false)
                }
                try await cluster.flush()
                let awaited = try await cluster.awaited(try #require(last).position)
                #expect(awaited.state == .absorbed && awaited.version == 3)
                let newest = try await cluster.newest()
                #expect(newest.absorbedChunks == 5 && newest.absorbedRows == 13)
                let bytes = try await cluster.bulk().getBlob(newest.hash, timeoutMs: Waiting.answerMs)
                #expect(bytes == (try Cluster.expected(pipeline, Self.chunks)))
            }
        }
    }

    @Test("the same chunk pushed by two producers through two workers is absorbed once")
    func duplicates() async throws {
        let cluster = try Cluster()
        try await cluster.withCoordinator {
            try await cluster.withWorkers(["a", "b"]) {
                try await cluster.apply(HashChain.pipeline(chunks: 10))
                let a = try cluster.worker("a"), b = try cluster.worker("b"), other = try cluster.worker("a")
                var answers: [Acknowledgement] = []
                for worker in [a, b, other] { answers.append(try await cluster.push([1, 2], to: worker)) }
                #expect(answers.map(\.position) == [1, 1, 1] && answers.map(\.duplicate) == [false, true, true])
                await #expect { _ = try await cluster.push([1], key: "k", to: a); _ = try await cluster.push([2], key: "k", to: b) } throws: {
                    ($0 as? AccrueError)?.code == .conflict
                }
                try await cluster.flush()
                #expect(try await cluster.awaited(1).state == .absorbed)
                let again = try await cluster.push([1, 2], to: b)
                #expect(again.position == 1 && again.duplicate)
                let status = try await cluster.status()
                #expect(status.absorbed == .init(chunks: 2, rows: 3) && status.waiting.chunks == 0)
            }
        }
    }

    @Test("a daemon that was stopped goes on where it was")
    func restart() async throws {
        let cluster = try Cluster()
        let pipeline = HashChain.pipeline(seed: 3, chunks: 2, shards: 2)
        try await cluster.withCoordinator {
            try await cluster.withWorkers(["a"]) {
                try await cluster.apply(pipeline)
                for values in Self.chunks.prefix(3) { _ = try await cluster.push(values, to: try cluster.worker("a")) }
                #expect(try await cluster.awaited(2).version == 1)
            }
        }
        try await cluster.withCoordinator {
            try await cluster.withWorkers(["a", "b"]) {
                let worker = try cluster.worker("b")
                for values in Self.chunks.suffix(2) { _ = try await cluster.push(values, to: worker) }
                try await cluster.flush()
                #expect(try await cluster.awaited(5).state == .absorbed)
                let bytes = try await cluster.bulk().getBlob(try await cluster.newest().hash, timeoutMs: Waiting.answerMs)
                #expect(bytes == (try Cluster.expected(pipeline, Self.chunks)))
            }
        }
    }

    @Test("a chunk that the method refuses is set aside after a second try; the rest is learned; a retry comes back at a new position")
    func poison() async throws {
        let cluster = try Cluster(method: HashChain(poison: 13))
        try await cluster.withCoordinator {
            try await cluster.withWorkers(["a", "b"]) {
                try await cluster.apply(HashChain.pipeline(chunks: 2))
                let worker = try cluster.worker("a")
                _ = try await cluster.push([1, 2], to: worker)
                _ = try await cluster.push([13], to: worker)
                let good = try await cluster.awaited(1)
                // One shard read both chunks, and the method named none.
                #expect(good.state == .setAside && good.reason?.contains("13") == true)
                #expect(try await cluster.newest().version == 0)
                let retried = try await cluster.control.askPatiently(.chunksRetry, ChunkPositions(pipeline: "chain", positions: [1]), as: PositionsReply.self)
                try await cluster.flush()
                #expect(try await cluster.awaited(try #require(retried.positions.first)).version == 1)
                let status = try await cluster.status()
                #expect(status.setAside.chunks == 2 && status.absorbed == .init(chunks: 1, rows: 2))
            }
        }
    }

    @Test("queries are answered from the newest version, and name it")
    func queries() async throws {
        let cluster = try Cluster()
        try await cluster.withCoordinator {
            try await cluster.withWorkers(["a"]) {
                try await cluster.withQuerier {
                    try await cluster.apply(HashChain.pipeline(chunks: 1))
                    let querier = try cluster.querier()
                    for version in 1...5 {
                        let position = try await cluster.push([Double(version)], to: try cluster.worker("a")).position
                        #expect(try await cluster.awaited(position).version == version)
                        // Asked for by number, the version is fetched if the querier has not seen it yet.
                        let reply = try await querier.askPatiently(.query, QueryHeader(pipeline: "chain", verb: "show", at: version), as: QueryReply.self)
                        #expect(reply.version == version && reply.absorbedChunks == version && reply.header["count"]?.int == version)
                    }
                }
            }
        }
    }

    @Test("settings that the method refuses, a second declaration and an unknown pipeline are refused with their codes")
    func refusals() async throws {
        let cluster = try Cluster()
        try await cluster.withCoordinator {
            try await cluster.withWorkers(["a"]) {
                var unknown = HashChain.pipeline(name: "other")
                unknown.method = "HashChian"
                let refused = unknown
                await #expect { try await cluster.apply(refused) } throws: { ($0 as? AccrueError)?.hint.contains("HashChain") == true }
                try await cluster.apply(HashChain.pipeline())
                try await cluster.apply(HashChain.pipeline())
                await #expect { try await cluster.apply(HashChain.pipeline(seed: 2)) } throws: { ($0 as? AccrueError)?.code == .conflict }
                let missing = try Message(.push, encoding: Push(pipeline: "chian"), payload: [Data()])
                let worker = try cluster.worker("a")
                await #expect { _ = try await worker.patiently(missing) } throws: { ($0 as? AccrueError)?.code == .notFound }
                #expect(try await cluster.status().position == 0)
            }
        }
    }

    @Test("absorbed bytes stay as long as the retention says", arguments: [(Retention.none, false), (Retention.versions(2), true), (.all, true)])
    func retention(retention: Retention, stays: Bool) async throws {
        let cluster = try Cluster()
        var pipeline = HashChain.pipeline(chunks: 1)
        pipeline.retention = .init(data: retention)
        let declared = pipeline
        try await cluster.withCoordinator {
            try await cluster.withWorkers(["a"]) {
                try await cluster.apply(declared)
                let worker = try cluster.worker("a")
                let first = try await cluster.push([1], to: worker)
                #expect(try await cluster.awaited(1).version == 1)
                let incarnation = try await cluster.newest().incarnation
                // The worker hears of a drop before it hears that its next announcement is taken.
                #expect(try await cluster.awaited(try await cluster.push([2], to: worker).position).version == 2)
                func isThere() async -> Bool { (try? await worker.fetchChunk(first.chunk, incarnation: incarnation, timeoutMs: Waiting.answerMs)) != nil }
                #expect(await isThere() == stays)
                if retention == .versions(2) {
                    for value in [3.0, 4.0] { _ = try await cluster.awaited(try await cluster.push([value], to: worker).position) }
                    #expect(await isThere() == false)
                }
            }
        }
    }

    @Test("with two replicas a chunk is on two disks when it is acknowledged, and is learned after the worker that took it is gone")
    func replicas() async throws {
        let cluster = try Cluster(silenceMs: 3_000)
        let pipeline = HashChain.pipeline(seed: 5, chunks: 10, shards: 2, replicas: 2)
        let large = (0..<400_000).map(Double.init)
        try await cluster.withCoordinator {
            try await cluster.withWorkers(["b"]) {
                try await cluster.withWorkers(["a"]) {
                    try await cluster.apply(pipeline)
                    let a = try cluster.worker("a"), b = try cluster.worker("b")
                    let first = try await cluster.push([1, 2, 3], to: a)
                    let incarnation = try await cluster.newest().incarnation
                    let bytes = try await b.fetchChunk(first.chunk, incarnation: incarnation, timeoutMs: Waiting.answerMs)
                    #expect(try await a.fetchChunk(first.chunk, incarnation: incarnation, timeoutMs: Waiting.answerMs) == bytes)
                    let second = try await cluster.pushInPieces(large, to: a)
                    #expect(first.position == 1 && second.position == 2)
                    let held = try await a.fetchChunk(second.chunk, incarnation: incarnation, timeoutMs: Waiting.answerMs)
                    #expect(try await b.fetchChunk(second.chunk, incarnation: incarnation, timeoutMs: Waiting.answerMs) == held)
                    // Through the other one it is the same chunk.
                    #expect(try await cluster.push([1, 2, 3], to: b).duplicate)
                }
                try await cluster.flush()
                #expect(try await cluster.awaited(2).version == 1)
                let bytes = try await cluster.bulk().getBlob(try await cluster.newest().hash)
                #expect(bytes == (try Cluster.expected(pipeline, [[1, 2, 3], large])))
            }
        }
    }

    @Test("with two replicas wanted and one worker alive a push is refused with when to come again, and nothing is kept of it")
    func tooFewReplicas() async throws {
        let cluster = try Cluster()
        try await cluster.withCoordinator {
            try await cluster.withWorkers(["a"]) {
                try await cluster.apply(HashChain.pipeline(chunks: 10, replicas: 2))
                let bytes = Safetensors(tensors: try HashChain.rows([1]).tensors).encode()
                let push = try Message(.push, encoding: Push(pipeline: "chain"), payload: [bytes])
                let a = try cluster.worker("a")
                await #expect { try await a.patiently(push, patient: false) } throws: {
                    let error = $0 as? AccrueError
                    return error?.code == .unavailable && error?.retryAfterMs != nil && error?.hint.contains("accrue worker") == true
                }
                #expect(try await cluster.status().position == 0)
                let incarnation = try await cluster.newest().incarnation
                let chunk = try HashChain.rows([1]).identity
                await #expect { try await a.fetchChunk(chunk, incarnation: incarnation) } throws: { ($0 as? AccrueError)?.code == .notFound }
                try await cluster.withWorkers(["b"]) {
                    // Patient: told to come again, until the second worker is there.
                    let acknowledgement = try await cluster.push([1], to: a)
                    #expect(acknowledgement.position == 1)
                }
            }
        }
    }
}
