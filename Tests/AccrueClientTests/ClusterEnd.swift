import AccrueClient
import AccrueCore
import AccrueTesting
import AccrueWire
import Foundation
import Synchronization

/// The other end of a client's wire: a coordinator, ingest workers and queriers over real sockets that answer as a test says.
final class ClusterEnd: Sendable {
    /// An answer, or nothing at all.
    typealias Answer = @Sendable (Message) throws(AccrueError) -> Message?

    struct State {
        var ingest: [String] = []
        var query: [String] = []
        /// What reached each ingest worker, whole: the chunk's bytes and its key.
        var pushed: [(worker: String, bytes: Data, key: String?)] = []
        var pieces = PieceAssembly(bytesMax: 1 << 28, openBytesMax: 1 << 28)
        var count = 0
        /// How often it was asked who is there.
        var hellos = 0
    }

    let state = Mutex(State())
    let control: String
    private let folder: String
    private let loop: SocketLoop
    private let answered = AnsweredOnce()

    /// - Parameter control: answers what is asked of the coordinator, besides `hello`.
    init(control answer: @escaping Answer = { _ in nil }) throws {
        folder = "/tmp/accrue-c-\(UUID().uuidString.prefix(8))"
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        control = "ipc://\(folder)/control.sock"
        loop = try SocketLoop()
        try bind("control") { [weak self] message throws(AccrueError) in
            guard message.known == .hello, let self else { return try answer(message) }
            let live = state.withLock { state in
                state.hellos += 1
                return (state.ingest, state.query)
            }
            let endpoints = Endpoints(bulk: address("bulk"), events: address("events"), ingest: live.0, query: live.1)
            return try .reply(message.id, encoding: Welcome(boot: "b", endpoints: endpoints))
        }
        try loop.bindPublisher("events", at: address("events"))
    }

    deinit {
        loop.stop()
        try? FileManager.default.removeItem(atPath: folder)
    }

    func address(_ name: String) -> String { "ipc://\(folder)/\(name).sock" }

    func bind(_ name: String, _ answer: @escaping Answer) throws {
        try loop.bind(name, at: address(name)) { [weak loop, answered] incoming in
            do throws(AccrueError) {
                if let reply = try answered.answer(incoming.message, with: answer) { try loop?.send(reply, on: name, to: incoming.peer) }
            } catch { try? loop?.send(.refuse(incoming.message.id, error), on: name, to: incoming.peer) }
            return .taken
        }
    }

    func publish(_ hint: Hint) throws { try loop.publish(try Message(.hint, encoding: hint), topic: hint.pipeline, on: "events") }

    /// A live worker that takes chunks.
    /// - Parameter first: sees each push before it is taken, and may refuse it.
    func addWorker(_ name: String, first: @escaping @Sendable (Push) throws(AccrueError) -> Void = { (_) throws(AccrueError) in }) throws {
        try bind(name) { [weak self] message throws(AccrueError) in
            guard let self else { return nil }
            let push: Push = try message.read()
            if let parts = push.chunks {
                var rest = message.payload.first ?? Data()
                let results = parts.map { part -> Result<Acknowledgement, AccrueError> in
                    let bytes = Data(rest.prefix(part.bytes))
                    rest = Data(rest.dropFirst(part.bytes))
                    do throws(AccrueError) {
                        try first(Push(pipeline: push.pipeline, key: part.key))
                        return .success(state.withLock { state in
                            state.pushed.append((name, bytes, part.key))
                            return Acknowledgement(chunk: ContentHash(of: bytes), position: state.pushed.count, duplicate: false)
                        })
                    } catch { return .failure(error) }
                }
                return try .reply(message.id, encoding: Acknowledgements(results))
            }
            try first(push)
            return try state.withLock { state throws(AccrueError) in
                var bytes = message.payload.first ?? Data()
                if let offset = push.offset, let total = push.totalBytes, let hash = push.hash {
                    let progress = try state.pieces.add(bytes, offset: offset, totalBytes: total, hash: hash, scope: name, at: .now())
                    guard case .whole(let whole) = progress else { return try .reply(message.id, encoding: PieceReply(complete: false, received: 0)) }
                    bytes = whole
                }
                state.pushed.append((name, bytes, push.key))
                return try .reply(
                    message.id, encoding: Acknowledgement(chunk: ContentHash(of: bytes), position: state.pushed.count, duplicate: false))
            }
        }
        state.withLock { $0.ingest.append(address(name)) }
    }

    /// A live querier.
    func addQuerier(_ name: String, _ answer: @escaping Answer) throws {
        try bind(name, answer)
        state.withLock { $0.query.append(address(name)) }
    }

    func remove(_ name: String) {
        let address = address(name)
        state.withLock { state in
            state.ingest.removeAll { $0 == address }
            state.query.removeAll { $0 == address }
        }
    }

    /// What waits for something that is sure to come waits as long as it takes.
    func connection(askMs: Int = Waiting.answerMs, absenceMs: Int = Waiting.answerMs) async throws -> ClusterConnection {
        let patience = Patience(helloMs: Waiting.answerMs, askMs: askMs, applyMs: Waiting.answerMs, absenceMs: absenceMs)
        return try await ClusterConnection.open(control, patience: patience)
    }
}
