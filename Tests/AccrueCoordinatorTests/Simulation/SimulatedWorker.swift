import AccrueCore
import AccrueWire
import Foundation

/// A chunk's bytes in a spool.
struct SpoolPlace: Hashable, Comparable {
    var incarnation: String
    var identity: ContentHash
    static func < (left: SpoolPlace, right: SpoolPlace) -> Bool { (left.incarnation, left.identity) < (right.incarnation, right.identity) }
}

/// A worker's machine: the disk stays, the process comes and goes.
final class SimulatedWorker {
    let name: String
    private unowned let world: World
    var spool: [SpoolPlace: LogEntry.Chunk] = [:]
    var isFull = false
    private(set) var process: WorkerProcess?
    private var boots = 0

    init(_ world: World, name: String) {
        self.world = world
        self.name = name
    }

    func start() {
        guard process == nil else { return }
        boots += 1
        world.note("\(name) starts")
        let process = WorkerProcess(world, worker: self, boot: "\(name)-\(boots)")
        self.process = process
        world.network.connect(name) { [weak process] message, from in process?.receive(message, from) }
        process.join(waitMs: 100)
    }

    func crash() {
        guard let process else { return }
        world.note("\(name) crashes")
        world.network.disconnect(name)
        process.end()
        self.process = nil
    }
}

/// A worker's process, as it speaks: joins, beats, takes pushes, works on leases. What it knows is lost with it.
final class WorkerProcess {
    static let heartbeatMs = 1_000
    static let silenceMs = 3_000

    unowned let world: World
    let worker: SimulatedWorker
    let boot: String
    let control: Requests
    let bulk: Requests
    var peers: [String: Requests] = [:]
    private(set) var isOver = false

    // Session.
    private var coordinatorBoot: String?
    private var heardAtMs: Int?
    private var isJoining = true
    private var isBeating = false

    // Ingest.
    var pipelines: [String: PipelineRecord] = [:]
    var pipelinesHash: ContentHash?
    var refreshing: [(AccrueError?) -> Void] = []
    var pins: [SpoolPlace: Int] = [:]
    var known: Set<SpoolPlace> = []
    var underWay: Set<String> = []

    // Leases.
    var running: RunningLease?
    var waiting: [LeaseTask] = []
    var askedAtMs: Int?
    var isJoined = false
    var blobs: [ContentHash: Data] = [:]

    init(_ world: World, worker: SimulatedWorker, boot: String) {
        self.world = world
        self.worker = worker
        self.boot = boot
        control = Requests(world, from: worker.name, to: SimulatedCoordinator.control, nonce: boot)
        bulk = Requests(world, from: worker.name, to: SimulatedCoordinator.bulk, nonce: boot)
    }

    var name: String { worker.name }

    func end() {
        isOver = true
        control.end()
        bulk.end()
        for peer in peers.values { peer.end() }
    }

    func receive(_ message: Message, _ from: String) {
        guard !isOver else { return }
        switch message.known {
        case .reply, .refuse:
            if control.receive(message) || bulk.receive(message) { return }
            for peer in peers.keys.sorted() where peers[peer]?.receive(message) == true { return }
        case .push, .replicate: push(message, from)
        case .fetch: fetch(message, from)
        case .lease: if let task: LeaseTask = try? message.read() { offer(task) }
        case .cancel: if let cancel: Cancel = try? message.read() { self.cancel(cancel.lease) }
        case .drop: if let drop: Drop = try? message.read() { self.drop(SpoolPlace(incarnation: drop.incarnation, identity: drop.identity)) }
        default: world.violated("\(name) was sent '\(message.verb)'")
        }
    }

    func requests(to peer: String) -> Requests {
        let known = peers[peer] ?? Requests(world, from: name, to: peer, nonce: boot)
        peers[peer] = known
        return known
    }

    func later(_ ms: Int, _ action: @escaping () -> Void) {
        world.agenda.after(ms) { [weak self] in if let self, !isOver { action() } }
    }

    // Session.

    func join(waitMs: Int) {
        let again: (AccrueError) -> Void = { [weak self] _ in
            guard let self else { return }
            later(waitMs + world.dice.number(0...waitMs / 2)) { [weak self] in self?.join(waitMs: min(waitMs * 2, 1_600)) }
        }
        control.ask(.hello, Hello(role: .worker, name: name, boot: boot, endpoint: name), timeoutMs: 5_000) { [weak self] (result: Result<Welcome, AccrueError>) in
            guard let self else { return }
            switch result {
            case .failure(let error): again(error)
            case .success(let welcome):
                refresh { [weak self] error in
                    guard let self else { return }
                    if let error { return again(error) }
                    sendInventory(inventoryPages(), page: 0) { [weak self] error in
                        if let error { again(error) } else { self?.joined(welcome) }
                    }
                }
            }
        }
    }

    private func joined(_ welcome: Welcome) {
        coordinatorBoot = welcome.boot
        heardAtMs = world.agenda.nowMs
        isJoining = false
        joined(boot: welcome.boot)
        guard !isBeating else { return }
        isBeating = true
        world.agenda.every(Self.heartbeatMs) { [weak self] in
            guard let self, !isOver else { return false }
            beat()
            return true
        }
    }

    private func beat() {
        askIfIdle(afterMs: 5_000)
        let heartbeat = Heartbeat(worker: name, lease: running?.task.identity, step: running.map { $0.step(world.agenda.nowMs) })
        guard let message = try? Message(.heartbeat, encoding: heartbeat) else { return }
        control.ask(message, timeoutMs: Self.silenceMs, resendMs: Self.silenceMs, patient: false) { [weak self] result in
            guard let self else { return }
            switch result {
            case .success(let message):
                guard let reply: HeartbeatReply = try? message.read() else { return }
                let wasLost = coordinatorBoot != reply.boot || world.agenda.nowMs - (heardAtMs ?? -10_000) > Self.silenceMs
                heardAtMs = world.agenda.nowMs
                if wasLost { joinAgain() }
                if pipelinesHash != reply.pipelines, refreshing.isEmpty { refresh { _ in } }
            case .failure(let error): if error.code == .notFound { joinAgain() }
            }
        }
    }

    private func joinAgain() {
        guard !isJoining else { return }
        isJoining = true
        join(waitMs: 100)
    }

    // What it holds.

    private func inventoryPages() -> [[SpoolPlace]] {
        var pages: [[SpoolPlace]] = [[]]
        for place in worker.spool.keys.sorted() {
            if pages[pages.count - 1].count >= 3 { pages.append([]) }
            pages[pages.count - 1].append(place)
        }
        return pages
    }

    private func sendInventory(_ pages: [[SpoolPlace]], page: Int, _ done: @escaping (AccrueError?) -> Void) {
        guard page < pages.count else { return done(nil) }
        let items = pages[page].compactMap { place in worker.spool[place].map { InventoryItem(incarnation: place.incarnation, chunk: $0) } }
        let inventory = Inventory(worker: name, page: page, last: page == pages.count - 1, items: items)
        control.ask(.inventory, inventory) { [weak self] (result: Result<InventoryReply, AccrueError>) in
            guard let self else { return }
            switch result {
            case .failure(let error): done(error)
            case .success(let reply):
                guard reply.verdicts.count == items.count else { return world.violated("\(reply.verdicts.count) verdicts on \(items.count) chunks") }
                for (item, verdict) in zip(items, reply.verdicts) {
                    let place = SpoolPlace(incarnation: item.incarnation, identity: item.chunk.identity)
                    if verdict == .drop { drop(place) } else { known.insert(place) }
                }
                sendInventory(pages, page: page + 1, done)
            }
        }
    }

    func drop(_ place: SpoolPlace, onlyUnknown: Bool = false) {
        guard pins[place] == nil, !(onlyUnknown && known.contains(place)) else { return }
        if worker.spool.removeValue(forKey: place) != nil { world.note("\(name) drops \(place.identity.short)") }
    }

    func refresh(_ done: @escaping (AccrueError?) -> Void) {
        refreshing.append(done)
        guard refreshing.count == 1 else { return }
        control.ask(Message(.pipelines), timeoutMs: 5_000) { [weak self] result in
            guard let self else { return }
            var failure: AccrueError?
            do throws(AccrueError) {
                let listing = try result.get().read(PipelineListing.self)
                pipelines = Dictionary(listing.pipelines.map { ($0.declaration.name, $0) }) { _, last in last }
                pipelinesHash = listing.hash
            } catch { failure = error }
            let waiting = refreshing
            refreshing = []
            for done in waiting { done(failure) }
        }
    }
}
