public import AccrueCore
import AccrueStore
import AccrueWire
import Foundation

/// What one announcement after the other takes a coordinator, without sockets and on one thread: the message is read, decided on, committed to the log,
/// and answered.
public struct AnnounceMeasurement: Sendable {
    private let store: Store
    private let announcements: [[Data]]

    /// - Parameters:
    ///   - home: a new directory for the log.
    ///   - announcements: how many, each of `chunks` chunks that differ.
    public init(home: String, announcements: Int, chunks: Int) throws(AccrueError) {
        store = try Store(home: home)
        let schema = Schema([TensorSchema("inputs", role: .input, dtype: .f32, shape: [])])
        // The round is longer than all that is announced: nothing is to be learned.
        let declaration = PipelineDeclaration(
            name: "measured", method: "none", seed: 1, schema: schema, settings: .object([:]), round: .init(chunks: announcements * chunks + 1))
        let state = try store.states.put(Data("state".utf8))
        try store.createPipeline(declaration, incarnation: "measured", phases: MethodPhases(scores: false, statistics: false), initialState: state)
        var messages: [[Data]] = []
        for number in 0..<announcements {
            let items = (0..<chunks).map { item in
                let identity = ContentHash(of: Data("\(number) \(item)".utf8))
                return Announce.Item(LogEntry.Chunk(identity: identity, key: nil, rows: 4, bytes: 4_096))
            }
            let announce = Announce(worker: "worker-0", pipeline: "measured", incarnation: "measured", items: items)
            messages.append(try Message(.announce, id: "announce-\(number)", encoding: announce).frames())
        }
        self.announcements = messages
    }

    /// The time of each announcement, in milliseconds.
    /// - Throws: what the store throws; `engine` when something is not taken.
    public func run() throws(AccrueError) -> [Double] {
        let moment = Moment.now(), peer = Peer(Data("worker-0".utf8))
        var coordinator = Coordinator(boot: "measured", endpoints: Endpoints(bulk: "", events: ""), recovered: try RecoveredPipeline.all(of: store), at: moment)
        let hello = Hello(role: .worker, name: "worker-0", boot: "measured", endpoint: "ipc:///measured")
        _ = coordinator.receive(.message(try Message(.hello, id: "hello", encoding: hello), from: peer), at: moment)
        var times: [Double] = []
        for frames in announcements {
            let start = MonotonicTime.now()
            var effects = coordinator.receive(.message(try Message(frames: frames), from: peer), at: moment)
            var isAnswered = false
            while !effects.isEmpty {
                switch effects.removeFirst() {
                case .store(let number, let change): effects += coordinator.receive(.stored(number: number, try store.make(change) { _ in nil }), at: moment)
                case .send(let message, _):
                    _ = try message.frames()
                    isAnswered = isAnswered || message.known == .reply
                case .hint: break
                }
            }
            guard isAnswered else { throw AccrueError(.engine, while: "measuring announcements", "one was not taken", hint: "this is a defect; please report it") }
            times.append(start.elapsedMs)
        }
        return times
    }
}
