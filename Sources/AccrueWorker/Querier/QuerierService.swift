public import AccrueCore
import AccrueWire
import Foundation
import Synchronization

/// A querier: answers questions from the newest version of each pipeline, which it keeps loaded; learning never makes it wait.
public struct QuerierService: Sendable {
    public let settings: MemberSettings
    public let catalog: MethodCatalog
    /// Called on each thread that runs a method, before it does.
    public let beginThread: @Sendable () -> Void
    /// Told what a person may want to know, one line each.
    public let report: @Sendable (String) -> Void

    public init(
        _ settings: MemberSettings, catalog: MethodCatalog, beginThread: @escaping @Sendable () -> Void = {},
        report: @escaping @Sendable (String) -> Void
    ) {
        self.settings = settings
        self.catalog = catalog
        self.beginThread = beginThread
        self.report = report
    }

    /// Runs until `end` returns.
    /// - Throws: `conflict` when another querier runs in this home under this name, `unavailable` when the endpoint cannot be used.
    public func run(until end: @escaping @Sendable () async -> Void) async throws(AccrueError) {
        let lock = try HomeLock(home: settings.home, name: "\(settings.name).lock")
        defer { withExtendedLifetime(lock) {} }
        let membership = try Membership(coordinator: settings.coordinator, listen: settings.listen, key: settings.key)
        let loop = membership.loop
        do { try await serve(membership, end) } catch {
            loop.stop()
            throw error
        }
        loop.stop(lingerMs: 500)
    }

    private func serve(_ membership: Membership, _ end: @escaping @Sendable () async -> Void) async throws(AccrueError) {
        let loop = membership.loop
        try settings.prepareSocket()
        let desk = LateValue<QueryDesk>()
        let bound = try loop.bind("query", at: settings.listen, traffic: .bulk, security: membership.security) { desk.value?.receive($0) ?? .busy }
        let endpoint = settings.advertised(bound: bound)
        let hello = Hello(role: .querier, name: settings.name, boot: UUID().uuidString, endpoint: endpoint)
        let link = try CoordinatorLink(membership, hello: hello, silenceMs: settings.silenceMs, report: report)
        let versions = ServedVersions(control: link.control, catalog: catalog, beginThread: beginThread, report: report) { () throws(AccrueError) in try link.bulk() }
        let windowMs = settings.queryWindowMs
        var waitForOthers: QueryDesk.WaitForOthers?
        if windowMs > 0 { waitForOthers = { loop.timer(ms: windowMs, $0) } }
        desk.set(QueryDesk(versions: versions, beginThread: beginThread, waitForOthers: waitForOthers) { message, peer in
            try? loop.send(message, on: "query", to: peer)
        })
        let hints = HintSubscription(loop)
        report("answers queries at \(KeyedEndpoint.address(of: bound))")
        let name = settings.name

        // Not children of this task: a coordinator that does not answer must not hold up the end.
        let (outcomes, outcome) = AsyncStream<AccrueError?>.makeStream()
        let tasks = [
            Task { await versions.run() },
            Task {
                do throws(AccrueError) {
                    try await link.run {
                        // Hints may be lost, so the newest versions are asked for at every heartbeat too.
                        versions.look()
                        return Heartbeat(worker: name)
                    } joined: { welcome throws(AccrueError) in
                        try hints.follow(welcome.endpoints.events) { versions.look() }
                        try await versions.refresh()
                    } heard: { _ in }
                } catch { outcome.yield(error) }
            },
            Task {
                await end()
                outcome.yield(nil)
            },
        ]
        let failure = await outcomes.first { _ in true } ?? nil
        await desk.value?.close(patienceMs: 3_000)
        link.stop()
        versions.stop()
        for task in tasks { task.cancel() }
        if let failure { throw failure }
    }
}

/// The subscription to the coordinator's hints, made anew when they come from elsewhere.
private final class HintSubscription: Sendable {
    private struct Current {
        var endpoint = ""
        var number = 0
    }
    private let loop: SocketLoop
    private let current = Mutex(Current())

    init(_ loop: SocketLoop) { self.loop = loop }

    func follow(_ endpoint: String, _ hint: @escaping @Sendable () -> Void) throws(AccrueError) {
        let numbers = current.withLock { current -> (old: Int, new: Int)? in
            guard current.endpoint != endpoint else { return nil }
            current.endpoint = endpoint
            current.number += 1
            return (current.number - 1, current.number)
        }
        guard let numbers else { return }
        if numbers.old > 0 { loop.close("events-\(numbers.old)") }
        try loop.subscribe("events-\(numbers.new)", to: endpoint) { _ in
            hint()
            return .taken
        }
    }
}
