import AccrueCore
import AccrueStore
import AccrueWire
import Foundation

/// Somebody waits for a chunk to be absorbed or set aside.
struct Awaiting: Sendable {
    var incarnation: String
    var position: Int
    var deadline: MonotonicTime
}

// What people and clients ask.
extension Coordinator {
    func record(_ pipeline: PipelineLearning) -> AccrueWire.PipelineRecord {
        pipeline.record(leasedWorkers: leases.workers(incarnation: pipeline.incarnation), trouble: leases.trouble(incarnation: pipeline.incarnation))
    }

    var listing: PipelineListing { PipelineListing(pipelines: sortedPipelines.map(record), hash: listingHash) }

    var listingHash: ContentHash { ContentHash(of: Data(sortedPipelines.map { "\($0.name) \($0.incarnation) \($0.log.schemas.count)\n" }.joined().utf8)) }

    private var sortedPipelines: [PipelineLearning] { pipelines.values.sorted { $0.name < $1.name } }

    var status: ClusterStatus {
        ClusterStatus(boot: boot, pipelines: sortedPipelines.map { record($0).status }, workers: sessions.values.map(\.status).sorted { $0.name < $1.name })
    }

    func chunks(_ query: ChunksQuery) throws(AccrueError) -> ChunkListing {
        let pipeline = try pipeline(query.pipeline)
        let limit = Self.limit(query.limit)
        let alive = aliveWorkers
        var chunks: [ChunkRecord] = []
        var position = max(0, query.after ?? 0)
        while position < pipeline.log.lastPosition {
            position += 1
            guard let record = pipeline.chunk(at: position, alive: alive), query.state == nil || record.state == query.state else { continue }
            if chunks.count == limit { return ChunkListing(chunks: chunks, more: true) }
            chunks.append(record)
        }
        return ChunkListing(chunks: chunks, more: false)
    }

    mutating func setAside(_ request: ChunkPositions, _ asker: Asker) throws(AccrueError) {
        try check(request, while: "setting chunks of pipeline '\(request.pipeline)' aside")
        try change(request.pipeline, .setAside(positions: Array(Set(request.positions)).sorted(), reason: request.reason ?? "set aside by a person", asker))
    }

    mutating func retry(_ request: ChunkPositions, _ asker: Asker) throws(AccrueError) {
        try check(request, while: "retrying chunks of pipeline '\(request.pipeline)'")
        try change(request.pipeline, .retry(positions: request.positions, made: [], asker))
    }

    private func check(_ request: ChunkPositions, while operation: String) throws(AccrueError) {
        guard (1...Limits.pageItemsMax).contains(request.positions.count) else {
            throw AccrueError(.invalidInput, while: operation, "\(request.positions.count) positions; 1 to \(Limits.pageItemsMax) are allowed")
        }
        let last = try pipeline(request.pipeline).log.lastPosition
        if let strange = request.positions.first(where: { $0 < 1 || $0 > last }) {
            throw AccrueError(
                .notFound, while: operation, "there is no position \(strange); the log has \(last) entries", hint: "see 'accrue chunks list \(request.pipeline)'")
        }
    }

    func posteriors(_ query: PosteriorsQuery) throws(AccrueError) -> PosteriorListing {
        let pipeline = try pipeline(query.pipeline)
        let limit = Self.limit(query.limit)
        let later = pipeline.versions.dropFirst(max(0, (query.after ?? -1) + 1))
        let records = later.prefix(limit).map { version in
            var record = pipeline.posterior(version)
            // The figures say it; the sums, and the schema, are in `posterior.show`.
            record.score = nil
            record.schema = nil
            return record
        }
        return PosteriorListing(versions: records, more: later.count > limit)
    }

    func posterior(_ query: PosteriorQuery) throws(AccrueError) -> PosteriorRecord {
        let pipeline = try pipeline(query.pipeline)
        guard let version = pipeline.version(query.at) else {
            throw AccrueError(
                .notFound, while: "looking for version \(query.at ?? 0) of pipeline '\(query.pipeline)'", "its versions are 0 to \(pipeline.newest.version)",
                hint: "see 'accrue posterior list \(query.pipeline)'")
        }
        return pipeline.posterior(version)
    }

    mutating func awaitPosition(_ query: AwaitPosition, _ asker: Asker, at now: Moment) throws(AccrueError) {
        let pipeline = try pipeline(query.pipeline)
        guard pipeline.log.standings[query.position] != nil else {
            throw AccrueError(
                .notFound, while: "awaiting position \(query.position) of pipeline '\(query.pipeline)'",
                "no chunk, import or change of classes stands there; the log has \(pipeline.log.lastPosition) entries", hint: "see 'accrue chunks list \(query.pipeline)'")
        }
        if let answer = awaited(pipeline, query.position) { return reply(asker, answer) }
        awaiting[asker] = Awaiting(
            incarnation: pipeline.incarnation, position: query.position, deadline: now.monotonic.adding(ms: max(0, min(query.timeoutMs, 3_600_000))))
    }

    private func awaited(_ pipeline: PipelineLearning, _ position: Int) -> Awaited? {
        switch pipeline.log.standings[position] {
        case .absorbed(let version): Awaited(state: .absorbed, version: version)
        case .setAside(let reason): Awaited(state: .setAside, reason: reason)
        case .waiting, nil: nil
        }
    }

    /// Chunks of a pipeline have been absorbed or set aside.
    mutating func answerAwaiting(_ incarnation: String) {
        guard let pipeline = pipelines[incarnation] else { return }
        for asker in waiters(where: { $0.incarnation == incarnation }) {
            guard let position = awaiting[asker]?.position, let answer = awaited(pipeline, position) else { continue }
            awaiting[asker] = nil
            reply(asker, answer)
        }
    }

    /// Those who have waited long enough are told that they must wait on.
    mutating func endAwaiting(_ now: Moment) {
        for asker in waiters(where: { $0.deadline <= now.monotonic }) {
            awaiting[asker] = nil
            reply(asker, Awaited(state: .waiting))
        }
    }

    func waiters(where concerns: (Awaiting) -> Bool) -> [Asker] { awaiting.filter { concerns($0.value) }.keys.sorted() }
}
