public import AccrueCore
import AccrueWire
import Foundation
import Glibc

/// An ingest worker: takes chunks, keeps them, and learns from them when the coordinator asks.
public struct WorkerService: Sendable {
    public let settings: MemberSettings
    public let catalog: MethodCatalog
    /// Called on each thread that runs a method, before it does.
    public let beginThread: @Sendable () -> Void
    /// Told what a person may want to know, one line each.
    public let report: @Sendable (String) -> Void
    /// Told an error after which the process must not go on; must not return.
    public let fatal: @Sendable (AccrueError) -> Void

    public init(
        _ settings: MemberSettings, catalog: MethodCatalog, beginThread: @escaping @Sendable () -> Void = {},
        report: @escaping @Sendable (String) -> Void, fatal: @escaping @Sendable (AccrueError) -> Void
    ) {
        self.settings = settings
        self.catalog = catalog
        self.beginThread = beginThread
        self.report = report
        self.fatal = fatal
    }

    /// Runs until `end` returns; then refuses pushes, finishes acknowledgements, gives its lease back and returns.
    /// - Throws: `conflict` when the home or the name is in use, `unavailable` when the home or the endpoint cannot be used, what the coordinator refuses
    ///   for good.
    public func run(until end: @escaping @Sendable () async -> Void) async throws(AccrueError) {
        let lock = try HomeLock(home: settings.home)
        defer { withExtendedLifetime(lock) {} }
        let spool = try Spool(folder: "\(settings.home)/spool", report: report, fatal: fatal)
        let membership = try Membership(coordinator: settings.coordinator, listen: settings.listen, key: settings.key)
        let loop = membership.loop
        do {
            try await serve(spool, membership, end)
        } catch {
            spool.stop()
            loop.stop()
            throw error
        }
        spool.stop()
        // The last acknowledgements are in libzmq's hands; it may take a moment to send them.
        loop.stop(lingerMs: 500)
    }

    private func serve(_ spool: Spool, _ membership: Membership, _ end: @escaping @Sendable () async -> Void) async throws(AccrueError) {
        let name = settings.name, loop = membership.loop
        try settings.prepareSocket()
        let inbox = Inbox()
        let bound = try loop.bind("ingest", at: settings.listen, traffic: .bulk, security: membership.security) { inbox.ingest($0) }
        let endpoint = settings.advertised(bound: bound)
        let boot = UUID().uuidString
        let hello = Hello(role: .worker, name: name, boot: boot, endpoint: endpoint)
        let link = try CoordinatorLink(membership, hello: hello, silenceMs: settings.silenceMs, report: report) { inbox.unasked($0) }
        let control = link.control
        let pipelines = KnownPipelines(from: control)
        let report = report
        let damaged: @Sendable (SpoolKey, AccrueError) -> Void = { key, error in
            report("chunk \(key.identity.short) is damaged and held no longer: \(error.problem)")
            spool.disown(key)
            // The inventory that follows tells the coordinator.
            link.join()
        }
        let peers = PeerRequesters(loop)
        let replication = Replication(ownEndpoint: endpoint, control: control, peers: peers)
        let ingest = Ingest(
            worker: name, boot: boot, spool: spool, pipelines: pipelines, control: control, replication: replication, damaged: damaged
        ) { message, peer in
            try? loop.send(message, on: "ingest", to: peer)
        }
        let learning = WorkThreads("learning", priority: .yielding, begin: beginThread)
        let gathering = LeaseGathering(spool: spool, peers: peers, threads: learning, damaged: damaged) { () throws(AccrueError) in try link.bulk() }
        let learner = Learner(worker: name, catalog: catalog, control: control, gathering: gathering, threads: learning, report: report)
        inbox.open(ingest: ingest, learner: learner, spool: spool)
        let inventory = InventoryReport(worker: name, spool: spool, control: control)
        report("takes chunks at \(KeyedEndpoint.address(of: bound)); its spool holds \(spool.items().count)")

        // Not children of this task: a fit that does not stop, or a coordinator that does not answer, must not hold up the end.
        let (outcomes, outcome) = AsyncStream<AccrueError?>.makeStream()
        let tasks = [
            Task { await learner.run() },
            Task {
                do throws(AccrueError) {
                    try await link.run {
                        gathering.tidy()
                        learner.askIfIdle()
                        return learner.heartbeat
                    } joined: { welcome throws(AccrueError) in
                        try await pipelines.refresh()
                        try await inventory.send()
                        learner.joined(boot: welcome.boot)
                    } heard: { reply in
                        pipelines.note(reply.pipelines)
                    }
                } catch { outcome.yield(error) }
            },
            Task {
                await end()
                outcome.yield(nil)
            },
        ]
        let failure = await outcomes.first { _ in true } ?? nil
        await ingest.close(patienceMs: 3_000)
        await learner.stop()
        link.stop()
        for task in tasks { task.cancel() }
        if let failure { throw failure }
    }
}

/// Stands at the sockets from their opening on, and hands on what comes once everything behind it is there.
private final class Inbox: Sendable {
    private struct Parts: Sendable {
        var ingest: Ingest
        var learner: Learner
        var spool: Spool
    }
    private let parts = LateValue<Parts>()

    func open(ingest: Ingest, learner: Learner, spool: Spool) { parts.set(Parts(ingest: ingest, learner: learner, spool: spool)) }

    func ingest(_ incoming: Incoming) -> Intake { parts.value?.ingest.receive(incoming) ?? .busy }

    /// What the coordinator sends by itself; what cannot be read is for another release of Accrue, and is left alone.
    func unasked(_ message: Message) {
        guard let parts = parts.value else { return }
        switch message.known {
        case .lease: if let task = try? message.read(LeaseTask.self) { parts.learner.offer(task) }
        case .cancel: if let cancel = try? message.read(Cancel.self) { parts.learner.cancel(cancel.lease) }
        case .drop: if let drop = try? message.read(Drop.self) { parts.spool.drop(SpoolKey(incarnation: drop.incarnation, identity: drop.identity)) }
        default: break
        }
    }
}
