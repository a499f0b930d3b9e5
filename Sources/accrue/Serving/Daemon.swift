import AccrueClient
import AccrueCoordinator
import AccrueCore
import AccrueHTTP
import AccrueWire
import Foundation

/// The processes of `accrue serve`: the coordinator in this one, with HTTP if that is wanted; workers and a querier as children.
struct Daemon: Sendable {
    let settings: ServeSettings
    let engine: String
    /// Called once, when all have joined.
    let announce: @Sendable (ReadyLine) -> Void
    let report: @Sendable (String) -> Void

    /// Runs until the process is asked to end: then the children end first, the coordinator last.
    /// - Throws: what the coordinator or HTTP cannot start or go on with.
    func run() async throws(AccrueError) {
        if settings.coordinator.isCurve { try settings.coordinator.keys.prepare() }
        let end = ProcessEnd(parentHolds: false)
        let (starts, started) = AsyncStream<CoordinatorEndpoints>.makeStream()
        let (stops, stop) = AsyncStream<Void>.makeStream()
        let report = report
        let service = CoordinatorService(settings.coordinator, report: report) { error in
            report("\(error)")
            // The children see their standard input end, and end too.
            _exit(error.exitCode)
        }
        let failure = await withTaskGroup(of: AccrueError?.self) { group in
            group.addTask {
                defer { started.finish() }
                do throws(AccrueError) { try await service.run { started.yield($0) } until: { for await _ in stops { return } } } catch { return error }
                return nil
            }
            group.addTask {
                var failure: AccrueError?
                for await endpoints in starts {
                    failure = await supervise(endpoints, until: end)
                    break
                }
                stop.yield()
                return failure
            }
            var failure: AccrueError?
            for await error in group {
                guard let error else { continue }
                failure = failure ?? error
                group.cancelAll()
            }
            return failure
        }
        if let failure { throw failure }
    }

    private enum Happening: Sendable {
        case endRequested, over
        case failed(AccrueError)
    }

    /// Keeps the children and HTTP going.
    /// - Returns: what HTTP cannot start or go on with; nil when the end was asked for.
    private func supervise(_ endpoints: CoordinatorEndpoints, until end: ProcessEnd) async -> AccrueError? {
        let children = settings.children(engine: engine)
        let (addresses, address) = AsyncStream<String?>.makeStream()
        return await withTaskGroup(of: Happening.self) { group in
            group.addTask {
                await end.requested()
                return .endRequested
            }
            for child in children {
                group.addTask {
                    await child.run(report: report)
                    return .over
                }
            }
            group.addTask {
                guard let http = settings.http else {
                    address.yield(nil)
                    return .over
                }
                do throws(AccrueError) { try await serve(http) { address.yield($0) } } catch { return .failed(error) }
                return .over
            }
            group.addTask {
                do throws(AccrueError) {
                    var ready = try await joined(children, endpoints)
                    for await found in addresses {
                        ready.http = found
                        announce(ready)
                        break
                    }
                } catch {
                    if !Task.isCancelled { report("\(error)") }
                }
                return .over
            }
            var failure: AccrueError?
            var isEnding = false
            for await happening in group {
                switch happening {
                case .over: continue
                case .endRequested: break
                // What HTTP says of being ended is no failure.
                case .failed(let error): if !isEnding { failure = error }
                }
                isEnding = true
                group.cancelAll()
            }
            return failure
        }
    }

    /// HTTP as one more client, with the rights of the home's owner.
    private func serve(_ http: HTTPSettings, ready: @escaping @Sendable (String) -> Void) async throws(AccrueError) {
        let coordinator = settings.coordinator
        let key = coordinator.isCurve ? try coordinator.keys.ownerKey() : nil
        let cluster = try await ClusterConnection.open(coordinator.localControl, as: key)
        defer { cluster.close() }
        try await HTTPService(http, cluster: cluster).run(ready: ready)
    }

    /// Waits until all children have joined.
    private func joined(_ children: [SupervisedChild], _ endpoints: CoordinatorEndpoints) async throws(AccrueError) -> ReadyLine {
        let cluster = try await ClusterConnection.open(settings.coordinator.localControl)
        defer { cluster.close() }
        while true {
            let alive = Dictionary(try await cluster.status().workers.filter(\.alive).map { ($0.name, $0.endpoint) }) { first, _ in first }
            let found = children.compactMap { child in alive[child.name].flatMap(\.self) }
            if found.count == children.count {
                return ReadyLine(
                    control: endpoints.control, bulk: endpoints.bulk, events: endpoints.events, ingest: Array(found.dropLast()), query: Array(found.suffix(1)),
                    pid: getpid(), workers: children.dropLast().compactMap(\.pid), querier: children.last?.pid)
            }
            do { try await Task.sleep(for: .milliseconds(50)) } catch {
                throw AccrueError(.unavailable, while: "waiting for the workers to join", "the daemon is ending")
            }
        }
    }
}

/// What `accrue serve` says when it is ready.
struct ReadyLine: Codable, Sendable {
    var control: String
    var bulk: String
    var events: String
    /// One a worker, by number.
    var ingest: [String]
    var query: [String]
    /// The URL of HTTP, where it is served.
    var http: String?
    /// Process ids.
    var pid: Int32
    var workers: [Int32]
    var querier: Int32?
}
