import AccrueCore
import AccrueWire
import Foundation
import Synchronization

/// Hands events to the decisions one at a time, and does what they want.
///
/// To the decisions a peer is a routing id on one of the control sockets: who takes the same id on another socket is somebody else.
final class CoordinatorDesk: Sendable {
    private struct Shared {
        var coordinator: Coordinator
        var isClosed = false
    }

    /// The control sockets, by the first byte of a peer's name here.
    private static let sockets = ["control", "control-tcp"]

    private let shared: Mutex<Shared>
    private let loop: SocketLoop
    private let blobs: BlobDesk
    private let truth: StoreThread
    private let report: @Sendable (String) -> Void

    init(_ coordinator: Coordinator, loop: SocketLoop, blobs: BlobDesk, truth: StoreThread, report: @escaping @Sendable (String) -> Void) {
        shared = Mutex(Shared(coordinator: coordinator))
        self.loop = loop
        self.blobs = blobs
        self.truth = truth
        self.report = report
    }

    /// Takes what came on a control socket; on the loop's thread.
    func receive(_ incoming: Incoming) -> Intake {
        guard let peer = incoming.peer, let socket = Self.sockets.firstIndex(of: incoming.socket) else { return .taken }
        guard !shared.withLock({ $0.isClosed }) else { return .busy }
        feed(.message(incoming.message.unlessLost { blobs.blob($0) != nil }, from: Peer(Data([UInt8(socket)]) + peer.bytes), key: incoming.key))
        return .taken
    }

    func feed(_ event: CoordinatorEvent) {
        shared.withLock { shared in
            // Effects leave in the order of the decisions: sending and storing only put them into queues.
            for effect in shared.coordinator.receive(event, at: .now()) { perform(effect) }
        }
    }

    func tidy() { blobs.tidy(keeping: shared.withLock { $0.coordinator.referencedBlobs }) }

    /// Takes nothing more; what is under way is finished.
    func close() { shared.withLock { $0.isClosed = true } }

    private func perform(_ effect: CoordinatorEffect) {
        switch effect {
        case .send(let message, let peer):
            guard let socket = peer.bytes.first else { return }
            let name = Self.sockets[Int(socket)], other = Peer(Data(peer.bytes.dropFirst()))
            do throws(AccrueError) { try loop.send(message, on: name, to: other) } catch {
                report("'\(message.verb)' cannot be sent: \(error.problem)")
                if message.known == .reply { try? loop.send(.refuse(message.id, error), on: name, to: other) }
            }
        case .hint(let hint):
            if let message = try? Message(.hint, encoding: hint) { try? loop.publish(message, topic: hint.pipeline, on: "events") }
        case .store(let number, let change):
            truth.make(change) { [weak self] outcome in self?.feed(.stored(number: number, outcome)) }
        }
    }
}
