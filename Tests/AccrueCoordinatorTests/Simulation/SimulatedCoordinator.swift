import AccrueCore
import AccrueStore
import AccrueWire
import Foundation

@testable import AccrueCoordinator

/// The real decisions and the real store, with simulated sockets, store thread and blob memory around them. A crash loses all but the store's home.
final class SimulatedCoordinator {
    static let control = "coordinator"
    static let bulk = "bulk"

    private struct Blob {
        var bytes: Data
        var putAtMs: Int
    }

    private struct Process {
        var coordinator: Coordinator
        let store: Store
        var blobs: [ContentHash: Blob] = [:]
        var asked: [(number: Int, change: StoreChange)] = []
    }

    private unowned let world: World
    private let home: String
    private var process: Process?
    private(set) var boots = 0
    /// How far the process's monotonic clock has jumped ahead of the world's.
    private var clockAheadMs = 0
    private var wallAheadMs = 0

    init(_ world: World, home: String) {
        self.world = world
        self.home = home
    }

    var isUp: Bool { process != nil }
    var pipelines: [PipelineLearning] { process.map { $0.coordinator.pipelines.values.sorted { $0.incarnation < $1.incarnation } } ?? [] }
    var store: Store? { process?.store }

    private var now: Moment {
        let ms = world.agenda.nowMs
        return Moment(monotonic: MonotonicTime(nanoseconds: UInt64(ms + clockAheadMs + 1_000_000) * 1_000_000), wallMs: 1_700_000_000_000 + ms + wallAheadMs)
    }

    /// A test that starts a program beside this one holds every open file, also the lock of the process that just crashed, for the moment until the
    /// program runs; nobody else uses the home.
    private func openedStore() throws(AccrueError) -> Store {
        while true {
            do throws(AccrueError) { return try Store(home: home) } catch where error.code == .conflict { usleep(1_000) }
        }
    }

    func start() {
        guard process == nil else { return }
        boots += 1
        let boot = boots
        do {
            let store = try openedStore()
            let coordinator = Coordinator(
                boot: "boot-\(boot)", endpoints: Endpoints(bulk: Self.bulk, events: "events"), recovered: try RecoveredPipeline.all(of: store),
                timing: World.timing, at: now)
            process = Process(coordinator: coordinator, store: store)
        } catch { return world.violated("the coordinator does not start: \(error)") }
        world.note("coordinator starts, boot \(boot)")
        world.network.connect(Self.control) { [unowned self] message, from in control(message, from) }
        world.network.connect(Self.bulk) { [unowned self] message, from in bulk(message, from) }
        world.witness.recovered(pipelines, process?.store)
        world.agenda.every(250) { [unowned self] in
            guard boots == boot, isUp else { return false }
            feed(.tick)
            return true
        }
        world.agenda.every(2_000) { [unowned self] in
            guard boots == boot, isUp else { return false }
            tidy()
            return true
        }
    }

    /// What was with the store is done up to some change, and nobody hears of it.
    func crash() {
        guard let process else { return }
        let done = world.dice.number(0...process.asked.count)
        for asked in process.asked.prefix(done) { _ = perform(asked.change, process) }
        world.note("coordinator crashes; \(done) of \(process.asked.count) changes were made")
        world.network.disconnect(Self.control)
        world.network.disconnect(Self.bulk)
        self.process = nil
    }

    func jumpClock(ms: Int) {
        world.note("coordinator's clock jumps \(ms) ms ahead")
        clockAheadMs += ms
        wallAheadMs += world.dice.number(-100_000_000...100_000_000)
    }

    // Control.

    private func control(_ message: Message, _ from: String) {
        feed(.message(message.unlessLost { process?.blobs[$0] != nil }, from: Peer(Data(from.utf8))))
    }

    private func feed(_ event: CoordinatorEvent) {
        let boot = boots
        let effects = process?.coordinator.receive(event, at: now) ?? []
        for effect in effects {
            switch effect {
            case .send(let message, let peer):
                world.network.send(message, from: Self.control, to: String(decoding: peer.bytes, as: UTF8.self), inOrder: true)
            case .hint(let hint): if hint.kind == .version { world.note("version \(hint.version ?? -1) of \(hint.pipeline)") }
            case .store(let number, let change):
                process?.asked.append((number, change))
                if process?.asked.count == 1 { makeNextChange(boot) }
            }
        }
        world.witness.look(pipelines)
    }

    // Truth.

    private func makeNextChange(_ boot: Int) {
        world.agenda.after(world.dice.number(world.storeMs)) { [unowned self] in
            guard boots == boot, let process, let asked = process.asked.first else { return }
            let outcome = perform(asked.change, process)
            self.process?.asked.removeFirst()
            if !process.asked.dropFirst().isEmpty { makeNextChange(boot) }
            feed(.stored(number: asked.number, outcome))
        }
    }

    private func perform(_ change: StoreChange, _ process: Process) -> StoreOutcome {
        do throws(AccrueError) {
            let outcome = try process.store.make(change) { process.blobs[$0]?.bytes }
            world.witness.committed(change, outcome)
            return outcome
        } catch {
            world.note("refused: \(change): \(error.problem)")
            return .refused(error)
        }
    }

    // Blobs.

    private func bulk(_ message: Message, _ from: String) {
        world.network.send(answer(message), from: Self.bulk, to: from)
    }

    private func answer(_ message: Message) -> Message {
        switch message.known {
        case .blobPut:
            guard let put: BlobPut = try? message.read(), let bytes = message.payload.first else { break }
            process?.blobs[put.hash] = Blob(bytes: bytes, putAtMs: world.agenda.nowMs)
            return .reply(message.id)
        case .blobGet:
            guard let get: BlobGet = try? message.read() else { break }
            if let bytes = process?.blobs[get.hash]?.bytes ?? (try? process?.store.states.read(get.hash)) { return .reply(message.id, payload: [bytes]) }
        default: break
        }
        return .refuse(message.id, AccrueError(.notFound, while: "taking '\(message.verb)'", "there is no such blob"))
    }

    /// Lets go of blobs that nothing names.
    private func tidy() {
        guard let process else { return }
        let referenced = process.coordinator.referencedBlobs
        let now = world.agenda.nowMs
        self.process?.blobs = process.blobs.filter { referenced.contains($0.key) || now - $0.value.putAtMs < 10_000 }
    }
}
