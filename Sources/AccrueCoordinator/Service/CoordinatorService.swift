public import AccrueCore
import AccrueStore
import AccrueWire
import Foundation
import Synchronization

/// A coordinator: sockets, store and clock around the decisions of `Coordinator`.
public struct CoordinatorService: Sendable {
    /// How often the decisions are told that time has passed.
    private static let tickMs = 100
    private static let tidyMs = 2_000

    public let settings: CoordinatorSettings
    /// Told what a person may want to know, one line each.
    public let report: @Sendable (String) -> Void
    /// Told an error after which the process must not go on; must not return.
    public let fatal: @Sendable (AccrueError) -> Void

    public init(_ settings: CoordinatorSettings, report: @escaping @Sendable (String) -> Void, fatal: @escaping @Sendable (AccrueError) -> Void) {
        self.settings = settings
        self.report = report
        self.fatal = fatal
    }

    /// Runs until `end` returns; then takes nothing more, finishes what is with the store, answers it, and returns.
    /// - Parameter ready: called once, when others can connect.
    /// - Throws: `conflict` when the home is in use, `corrupt` when it is damaged, `unavailable` when it or an endpoint cannot be used.
    public func run(ready: @escaping @Sendable (CoordinatorEndpoints) -> Void, until end: @escaping @Sendable () async -> Void) async throws(AccrueError) {
        let store = try Store(home: settings.home)
        try prepareSockets()
        let loop = try SocketLoop()
        do { try await serve(store, loop, ready, end) } catch {
            loop.stop()
            throw error
        }
        // The last answers are in libzmq's hands; it may take a moment to send them.
        loop.stop(lingerMs: 500)
        // Whoever comes now finds nobody at once, instead of waiting for an answer.
        unlink(String(settings.localControl.dropFirst("ipc://".count)))
    }

    private func serve(
        _ store: Store, _ loop: SocketLoop, _ ready: @Sendable (CoordinatorEndpoints) -> Void, _ end: @Sendable () async -> Void
    ) async throws(AccrueError) {
        let blobs = BlobDesk(states: store.states) { message, peer in try? loop.send(message, on: "bulk", to: peer) }
        let bulk = try loop.bind("bulk", at: settings.endpoint("bulk"), traffic: .bulk) { blobs.receive($0) }
        let events = try loop.bindPublisher("events", at: settings.endpoint("events"))
        let truth = StoreThread(store, blob: { blobs.blob($0) }, fatal: fatal)
        let coordinator = Coordinator(
            boot: UUID().uuidString, endpoints: .init(bulk: bulk, events: events), recovered: try RecoveredPipeline.all(of: store), timing: settings.timing,
            at: .now())
        let desk = CoordinatorDesk(coordinator, loop: loop, blobs: blobs, truth: truth, report: report)
        try loop.bind("control", at: settings.localControl) { desk.receive($0) }
        var control = settings.localControl
        if let listen = settings.listen { control = try loop.bind("control-tcp", at: listen) { desk.receive($0) } }
        let ticks = loop.timer(ms: Self.tickMs, repeats: true) { desk.feed(.tick) }
        let tidying = loop.timer(ms: Self.tidyMs, repeats: true) { desk.tidy() }
        ready(CoordinatorEndpoints(control: control, bulk: bulk, events: events))
        await end()
        loop.cancel(ticks)
        loop.cancel(tidying)
        desk.close()
        await truth.finish()
    }

    /// Sockets that a killed coordinator left behind are in nobody's use: the home's lock is ours.
    private func prepareSockets() throws(AccrueError) {
        do {
            try FileManager.default.createDirectory(atPath: settings.run, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
        } catch {
            throw AccrueError(.unavailable, while: "opening \(settings.run)", "\(error)", hint: "choose a home that can be written")
        }
    }
}

extension Moment {
    /// Reads the clocks.
    static func now() -> Moment { Moment(monotonic: .now(), wallMs: Int(Date().timeIntervalSince1970 * 1_000)) }
}
