import AccrueClient
import AccrueCoordinator
import AccrueCore
import AccrueWire
import Foundation

/// The processes of `accrue serve`: the coordinator in this one, workers and a querier as children.
struct Daemon: Sendable {
    let settings: ServeSettings
    let engine: String
    /// Called once, when all have joined.
    let announce: @Sendable (ReadyLine) -> Void
    let report: @Sendable (String) -> Void

    /// Runs until the process is asked to end: then the children end first, the coordinator last.
    /// - Throws: what the coordinator cannot start or go on with.
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
                for await endpoints in starts {
                    await superviseChildren(endpoints, until: end)
                    break
                }
                stop.yield()
                return nil
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

    private func superviseChildren(_ endpoints: CoordinatorEndpoints, until end: ProcessEnd) async {
        let children = settings.children(engine: engine)
        await withTaskGroup(of: Bool.self) { group in
            group.addTask {
                await end.requested()
                return true
            }
            for child in children {
                group.addTask {
                    await child.run(report: report)
                    return false
                }
            }
            group.addTask {
                do throws(AccrueError) { announce(try await joined(children, endpoints)) } catch {
                    if !Task.isCancelled { report("\(error)") }
                }
                return false
            }
            for await isAsked in group where isAsked { group.cancelAll() }
        }
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
    /// Process ids.
    var pid: Int32
    var workers: [Int32]
    var querier: Int32?
}
