import AccrueCore
import AccrueWire
import Foundation

/// A chunk on its way from a producer.
struct Parcel {
    var pipeline: String
    var key: String?
    var identity: ContentHash
}

/// Pushes its chunks one after the other (window 1), each to any worker and again until it is acknowledged or refused for good.
final class SimulatedProducer {
    private unowned let world: World
    private let name: String
    private var parcels: [Parcel]
    private var requests: [String: Requests] = [:]

    init(_ world: World, name: String, parcels: [Parcel]) {
        self.world = world
        self.name = name
        self.parcels = parcels
    }

    var isDone: Bool { parcels.isEmpty }

    func start() {
        world.network.connect(name) { [weak self] message, from in _ = self?.requests[from]?.receive(message) }
        pushNext()
    }

    private func pushNext() {
        guard let parcel = parcels.first else { return }
        let worker = world.dice.one(of: world.workers).name
        let known = requests[worker] ?? Requests(world, from: name, to: worker, nonce: name)
        requests[worker] = known
        let content = Data(parcel.identity.hex.utf8)
        guard let message = try? Message(.push, encoding: Push(pipeline: parcel.pipeline, key: parcel.key), payload: [content]) else { return }
        known.ask(message, timeoutMs: world.dice.number(2_000...6_000)) { [weak self] result in
            guard let self else { return }
            var waitMs = world.dice.number(1...world.producerPauseMs)
            do throws(AccrueError) {
                let acknowledgement = try result.get().read(Acknowledgement.self)
                world.note("\(name): \(parcel.identity.short) of \(parcel.pipeline) is at \(acknowledgement.position)\(acknowledgement.duplicate ? ", again" : "")")
                parcels.removeFirst()
            } catch {
                if error.code == .conflict { parcels.removeFirst() } else { waitMs += min(error.retryAfterMs ?? 200, 1_000) }
            }
            world.agenda.after(waitMs) { [weak self] in self?.pushNext() }
        }
    }
}
