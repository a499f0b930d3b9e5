import AccrueCore
import AccrueWire
import Foundation
import Synchronization

/// Takes queries and answers them on threads of their own.
final class QueryDesk: Sendable {
    /// Queries that may be under way, and their bytes; one is always taken.
    static let queriesMax = 1_000
    static let bytesMax = 256 << 20
    /// Questions about many rows come in parts, two at a time; one thread more, so that a small question does not wait for them.
    private static let threads = 3

    private let versions: ServedVersions
    private let send: @Sendable (Message, Peer) -> Void
    private let answering: WorkThreads
    private let admission = Admission(countMax: queriesMax, bytesMax: bytesMax)

    init(versions: ServedVersions, beginThread: @escaping @Sendable () -> Void, send: @escaping @Sendable (Message, Peer) -> Void) {
        self.versions = versions
        answering = WorkThreads("answering", count: Self.threads, begin: beginThread)
        self.send = send
    }

    /// Takes what came on the query socket; on the loop's thread.
    func receive(_ incoming: Incoming) -> Intake {
        guard let peer = incoming.peer else { return .taken }
        let message = incoming.message
        guard message.known == .query else {
            let error = AccrueError(
                .invalidInput, while: "taking '\(message.verb)'", "a query socket understands query", hint: "send it to the coordinator's control socket")
            send(.refuse(message.id, error), peer)
            return .taken
        }
        let bytes = message.payload.reduce(0) { $0 + $1.count }
        guard admission.enter(bytes: bytes) else { return .busy }
        answering.submit { [weak self] in
            guard let self else { return }
            take(message) { [admission, send] answer in
                send(answer, peer)
                admission.leave(bytes: bytes)
            }
        }
        return .taken
    }

    /// Takes no more queries, and returns when those under way are answered, or after a while.
    func close(patienceMs: Int) async { await admission.close(patienceMs: patienceMs) }

    /// - Parameter done: called once, with the answer.
    private func take(_ message: Message, done: @escaping @Sendable (Message) -> Void) {
        do throws(AccrueError) {
            let query = try message.read(QueryHeader.self)
            if let version = versions.loaded(query.pipeline, at: query.at), version.record.version >= query.atLeast ?? 0 {
                return done(try answer(query, message, version))
            }
            versions.load(query.pipeline, at: query.at) { [weak self] result in
                guard let self else { return }
                answering.submit { [weak self] in
                    guard let self else { return }
                    do throws(AccrueError) { done(try answer(query, message, try result.get())) } catch { done(.refuse(message.id, error)) }
                }
            }
        } catch { done(.refuse(message.id, error)) }
    }

    private func answer(_ query: QueryHeader, _ message: Message, _ version: ServedVersion) throws(AccrueError) -> Message {
        let operation = "answering '\(query.verb)' from pipeline '\(query.pipeline)'"
        if let least = query.atLeast, version.record.version < least {
            let problem = query.at == nil ? "its newest version is \(version.record.version)" : "version \(version.record.version) was asked for"
            throw AccrueError(.unavailable, while: operation, "\(problem), and at least \(least) is wanted", hint: "ask when what was pushed is absorbed: 'accrue push --wait'")
        }
        var tensors: [String: TensorBytes] = [:]
        if !message.payload.isEmpty {
            do { tensors = try Safetensors.decode(message.joinedPayload).tensors } catch {
                throw AccrueError(error.code, while: operation, error.problem, hint: error.hint)
            }
        }
        for (name, tensor) in tensors.sorted(by: { $0.key < $1.key }) where tensor.rowCount > Limits.queryRowsMax {
            throw AccrueError(
                .limitExceeded, while: operation, "tensor '\(name)' has \(tensor.rowCount) rows; at most \(Limits.queryRowsMax) are allowed", hint: "ask in parts")
        }
        let answer = try version.state.answer(
            QueryBytes(verb: query.verb, header: query.header, tensors: tensors), key: version.key(querySeed: query.seed))
        let reply = QueryReply(
            pipeline: query.pipeline, version: version.record.version, absorbedChunks: version.record.absorbedChunks,
            absorbedRows: version.record.absorbedRows, header: answer.header)
        return try .reply(message.id, encoding: reply, payload: try Self.frames(answer.tensors, while: operation))
    }

    /// Safetensors bytes in frames that fit a message; none when there are no tensors.
    static func frames(_ tensors: [String: TensorBytes], while operation: String) throws(AccrueError) -> [Data] {
        guard !tensors.isEmpty else { return [] }
        let bytes = Safetensors(tensors: tensors).encode()
        let room = Limits.frameBytesMax * (Limits.messagePartsMax - 3)
        guard bytes.count <= room else {
            throw AccrueError(.limitExceeded, while: operation, "the answer has \(bytes.count) bytes; at most \(room) are allowed", hint: "ask for fewer rows or draws at a time")
        }
        return stride(from: 0, to: bytes.count, by: Limits.frameBytesMax).map { bytes[$0..<min(bytes.count, $0 + Limits.frameBytesMax)] }
    }
}
