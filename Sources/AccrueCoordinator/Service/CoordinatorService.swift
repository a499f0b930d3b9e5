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
        let door = settings.isCurve ? try Door(settings.keys) : nil
        let loop = try SocketLoop(admitting: door?.ring)
        do { try await serve(store, loop, door, ready, end) } catch {
            loop.stop()
            throw error
        }
        // The last answers are in libzmq's hands; it may take a moment to send them.
        loop.stop(lingerMs: 500)
        // Whoever comes now finds nobody at once, instead of waiting for an answer.
        unlink(String(settings.localControl.dropFirst("ipc://".count)))
    }

    private func serve(
        _ store: Store, _ loop: SocketLoop, _ door: Door?, _ ready: @Sendable (CoordinatorEndpoints) -> Void, _ end: @Sendable () async -> Void
    ) async throws(AccrueError) {
        let blobs = BlobDesk(states: store.states) { message, peer in try? loop.send(message, on: "bulk", to: peer) }
        let security = door?.security ?? .plain
        let bulk = try loop.bind("bulk", at: settings.endpoint("bulk"), traffic: .bulk, security: security) { blobs.receive($0) }
        let events = try loop.bindPublisher("events", at: settings.endpoint("events"), security: security)
        let truth = StoreThread(store, blob: { blobs.blob($0) }, fatal: fatal)
        let coordinator = Coordinator(
            boot: UUID().uuidString, endpoints: .init(bulk: bulk, events: events), recovered: try RecoveredPipeline.all(of: store), timing: settings.timing,
            at: .now())
        let desk = CoordinatorDesk(coordinator, loop: loop, blobs: blobs, truth: truth, report: report)
        if let door { desk.feed(.authorised(door.keys)) }
        try loop.bind("control", at: settings.localControl) { desk.receive($0) }
        var control = settings.localControl
        if let listen = settings.listen { control = try loop.bind("control-tcp", at: listen, security: security) { desk.receive($0) } }
        let ticks = loop.timer(ms: Self.tickMs, repeats: true) { desk.feed(.tick) }
        let tidying = loop.timer(ms: Self.tidyMs, repeats: true) { desk.tidy() }
        let watch = door.map { KeyWatch(settings.keys, $0.ring, report: report) { desk.feed(.authorised($0)) } }
        let watching = watch.map { watch in loop.timer(ms: KeyWatch.everyMs, repeats: true) { watch.look() } }
        ready(CoordinatorEndpoints(control: control, bulk: bulk, events: events))
        await end()
        loop.cancel(ticks)
        loop.cancel(tidying)
        if let watching { loop.cancel(watching) }
        desk.close()
        await truth.finish()
    }

    /// Sockets that a killed coordinator left behind are in nobody's use: the home's lock is ours.
    private func prepareSockets() throws(AccrueError) {
        do {
            try FileManager.default.createDirectory(atPath: settings.run, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
        } catch {
            throw AccrueError(.unavailable, while: "opening \(settings.run)", error.reason, hint: "choose a home that can be written")
        }
    }
}

/// What CURVE takes: who the coordinator is, and whom it lets in.
private struct Door {
    let ring: KeyRing
    let keys: [AuthorisedKey]
    let security: SocketSecurity

    init(_ folder: KeyFolder) throws(AccrueError) {
        security = .curveServer(try folder.server())
        keys = try folder.authorised()
        ring = KeyRing(keys)
    }
}

extension Moment {
    /// Reads the clocks.
    static func now() -> Moment { Moment(monotonic: .now(), wallMs: Int(Date().timeIntervalSince1970 * 1_000)) }
}
