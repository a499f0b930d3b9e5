import AccrueCore
import AccrueWire
import Foundation
import Synchronization

/// The versions that a querier has loaded: the newest of each pipeline, and the older ones last asked for.
///
/// States are fetched, decoded and made ready aside; `NewestVersions` swaps them in, so who asks never waits for a new version.
final class ServedVersions: Sendable {
    /// Bytes of older versions' states that stay loaded.
    static let olderBytesMax = 512 << 20
    /// Versions that are loaded at the same time on demand.
    private static let loadsMax = 2
    /// After a version could not be loaded, it is not tried again for this long.
    private static let againMs = 10_000

    private struct OlderKey: Hashable, Sendable {
        var incarnation: String
        var version: Int
    }
    private struct Failure {
        var key: OlderKey
        var at: MonotonicTime
        var error: AccrueError
    }
    private struct Shared {
        var pipelines: [String: PipelineRecord] = [:]
        var failures: [String: Failure] = [:]
        var isLooking = false
        /// Something new may have come while looking.
        var looksAgain = false
    }
    private struct Demand: Sendable {
        var pipeline: String
        var version: Int?
        var done: @Sendable (Result<ServedVersion, AccrueError>) -> Void
    }

    private let control: Requester
    private let catalog: MethodCatalog
    private let bulk: @Sendable () throws(AccrueError) -> Requester
    private let report: @Sendable (String) -> Void
    private let loading: WorkThreads
    private let newest = NewestVersions()
    private let older = RecentlyUsed<OlderKey, ServedVersion>(costMax: olderBytesMax)
    private let shared = Mutex(Shared())
    private let demands: AsyncStream<Demand>
    private let demand: AsyncStream<Demand>.Continuation
    private let looks: AsyncStream<Void>
    private let looking: AsyncStream<Void>.Continuation

    init(
        control: Requester, catalog: MethodCatalog, beginThread: @escaping @Sendable () -> Void, report: @escaping @Sendable (String) -> Void,
        bulk: @escaping @Sendable () throws(AccrueError) -> Requester
    ) {
        loading = WorkThreads("loading", begin: beginThread)
        self.control = control
        self.catalog = catalog
        self.report = report
        self.bulk = bulk
        (demands, demand) = AsyncStream.makeStream(bufferingPolicy: .bufferingOldest(10_000))
        (looks, looking) = AsyncStream.makeStream(bufferingPolicy: .bufferingNewest(1))
    }

    /// The version if it is loaded.
    func loaded(_ pipeline: String, at version: Int?) -> ServedVersion? {
        let newest = newest[pipeline]
        guard let version, version != newest?.record.version else { return newest }
        return shared.withLock { $0.pipelines[pipeline]?.incarnation }.flatMap { older[OlderKey(incarnation: $0, version: version)] }
    }

    /// Loads a version that is not; `done` may come on any thread.
    func load(_ pipeline: String, at version: Int?, done: @escaping @Sendable (Result<ServedVersion, AccrueError>) -> Void) {
        if case .enqueued = demand.yield(Demand(pipeline: pipeline, version: version, done: done)) { return }
        done(.failure(AccrueError(.unavailable, while: "loading pipeline '\(pipeline)'", "too much is being loaded, or the querier is stopping", hint: "wait", retryAfterMs: 500)))
    }

    /// There may be something new.
    func look() {
        let isFirst = shared.withLock { shared in
            if shared.isLooking { shared.looksAgain = true }
            defer { shared.isLooking = true }
            return !shared.isLooking
        }
        if isFirst { looking.yield() }
    }

    /// Works until `stop`.
    func run() async {
        async let looking: Void = { for await _ in looks { await lookUntilNothingNew() } }()
        await withTaskGroup(of: Void.self) { group in
            var count = 0
            for await demand in demands {
                // A few at a time: states may be large, and a client may ask for many.
                if count >= Self.loadsMax { await group.next() } else { count += 1 }
                group.addTask { await self.serve(demand) }
            }
        }
        await looking
    }

    func stop() {
        looking.finish()
        demand.finish()
    }

    private func serve(_ demand: Demand) async {
        do throws(AccrueError) { demand.done(.success(try await fetch(demand.pipeline, at: demand.version))) } catch { demand.done(.failure(error)) }
    }

    /// One at a time; hints that come meanwhile make it look again.
    private func lookUntilNothingNew() async {
        var goesOn = true
        while goesOn {
            do throws(AccrueError) { try await refresh() } catch {
                if error.code != .unavailable { report("asking for new versions failed: \(error.problem)") }
            }
            goesOn = shared.withLock { shared in
                defer {
                    shared.isLooking = shared.looksAgain
                    shared.looksAgain = false
                }
                return shared.looksAgain
            }
        }
    }

    /// Asks the coordinator for the pipelines and loads what is newer than what is served.
    func refresh() async throws(AccrueError) {
        let listing = try await control.request(Message(.pipelines), timeoutMs: 5_000).read(PipelineListing.self)
        let current = Dictionary(listing.pipelines.map { ($0.declaration.name, $0) }) { _, last in last }
        shared.withLock { $0.pipelines = current }
        newest.keep(only: current.mapValues(\.incarnation))
        for pipeline in listing.pipelines {
            let name = pipeline.declaration.name
            let key = OlderKey(incarnation: pipeline.incarnation, version: pipeline.status.version)
            let served = newest[name]?.record, failure = shared.withLock { $0.failures[name] }
            if served?.incarnation == key.incarnation, let version = served?.version, version >= key.version { continue }
            if let failure, failure.key == key, MonotonicTime.now().ms(since: failure.at) < Self.againMs { continue }
            do throws(AccrueError) { _ = try await fetch(name, at: nil) } catch {
                if error.code == .unavailable { throw error }
                // A pipeline that is being applied has no version yet, one that is being deleted none any more.
                if error.code == .notFound { continue }
                report("version \(key.version) of pipeline '\(name)' cannot be served: \(error.problem)")
                shared.withLock { $0.failures[name] = Failure(key: key, at: .now(), error: error) }
            }
        }
    }

    /// Fetches, decodes and keeps a version.
    private func fetch(_ pipeline: String, at version: Int?) async throws(AccrueError) -> ServedVersion {
        if let served = loaded(pipeline, at: version), version != nil { return served }
        let record = try await control.ask(.posteriorShow, PosteriorQuery(pipeline: pipeline, at: version), as: PosteriorRecord.self)
        if let newest = newest[pipeline], newest.record.incarnation == record.incarnation, newest.record.version == record.version {
            return newest
        }
        var declaration = try await declaration(pipeline, incarnation: record.incarnation)
        // Classes may have been appended since.
        if let schema = record.schema { declaration = declaration.with(schema: schema) }
        let declared = declaration
        let bytes = try await bulk().getBlob(record.hash)
        let catalog = catalog, earlier = version == nil ? newest[pipeline] : nil
        let served = try await loading.run { () -> Result<ServedVersion, AccrueError> in
            do throws(AccrueError) {
                return .success(try ServedVersion.ready(record, seed: declared.seed, method: try catalog.make(declared), state: bytes, following: earlier))
            } catch { return .failure(error) }
        }.get()
        if version != nil {
            older.insert(served, for: OlderKey(incarnation: record.incarnation, version: record.version), cost: max(1, record.bytes))
        } else {
            _ = newest.swap(served)
            shared.withLock { $0.failures[pipeline] = nil }
        }
        return served
    }

    private func declaration(_ pipeline: String, incarnation: String) async throws(AccrueError) -> PipelineDeclaration {
        if let known = shared.withLock({ $0.pipelines[pipeline] }), known.incarnation == incarnation { return known.declaration }
        let record = try await control.ask(.pipelineShow, PipelineName(pipeline: pipeline), as: PipelineRecord.self)
        guard record.incarnation == incarnation else {
            throw AccrueError(.unavailable, while: "loading pipeline '\(pipeline)'", "it is being deleted and made anew", hint: "ask again", retryAfterMs: 200)
        }
        shared.withLock { $0.pipelines[pipeline] = record }
        return record.declaration
    }
}
