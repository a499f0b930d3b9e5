import AccrueCore
import AccrueWire
import Foundation
import Synchronization

/// Takes queries and answers them on threads of their own. Those that wait at the same time and ask the same of other rows are answered in one pass; a
/// window makes each wait a little for others to come.
final class QueryDesk: Sendable {
    /// Does what it is given when a window is over.
    typealias WaitForOthers = @Sendable (@escaping @Sendable () -> Void) -> Void

    /// Queries that may be under way, and their bytes; one is always taken.
    static let queriesMax = 1_000
    static let bytesMax = 256 << 20
    /// Questions about many rows come in parts, two at a time; one thread more, so that a small question does not wait for them.
    private static let threads = 3

    /// Queries that share a pass, and the bytes of their rows.
    private static let togetherMax = 32
    private static let togetherBytesMax = 1 << 20

    private struct Asked: Sendable {
        var message: Message
        /// The header but for the request's id.
        var question: JSONValue
        var bytes: Int
        /// Called once, with the answer.
        var done: @Sendable (Message) -> Void
    }

    private let versions: ServedVersions
    private let asked = Mutex<[Asked]>([])
    private let send: @Sendable (Message, Peer) -> Void
    private let answering: WorkThreads
    private let admission = Admission(countMax: queriesMax, bytesMax: bytesMax)
    private let waitForOthers: WaitForOthers?

    /// - Parameter waitForOthers: the window of each query; nil: there is none, and only what waits for a thread is answered together.
    init(
        versions: ServedVersions, beginThread: @escaping @Sendable () -> Void, waitForOthers: WaitForOthers? = nil,
        send: @escaping @Sendable (Message, Peer) -> Void
    ) {
        self.versions = versions
        self.waitForOthers = waitForOthers
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
        var question = message.header
        if case .object(var fields) = question {
            fields["id"] = nil
            question = .object(fields)
        }
        let done = { @Sendable [admission, send] (answer: Message) in
            send(answer, peer)
            admission.leave(bytes: bytes)
        }
        asked.withLock { $0.append(Asked(message: message, question: question, bytes: bytes, done: done)) }
        if let waitForOthers { waitForOthers { [weak self] in self?.submit() } } else { submit() }
        return .taken
    }

    private func submit() { answering.submit { [weak self] in self?.answerNext() } }

    /// Takes no more queries, and returns when those under way are answered, or after a while.
    func close(patienceMs: Int) async { await admission.close(patienceMs: patienceMs) }

    /// The query that has waited longest, and those that ask the same of other rows; none when another thread took it along.
    private func next() -> [Asked] {
        asked.withLock { asked in
            guard let first = asked.first else { return [] }
            var together: [Asked] = [], bytes = 0
            asked.removeAll { other in
                let joins = together.isEmpty || (other.question == first.question && together.count < Self.togetherMax && bytes + other.bytes <= Self.togetherBytesMax)
                guard joins else { return false }
                bytes += other.bytes
                together.append(other)
                return true
            }
            return together
        }
    }

    private func answerNext() {
        let together = next()
        guard let first = together.first else { return }
        do throws(AccrueError) {
            let query = try first.message.read(QueryHeader.self)
            if let version = versions.loaded(query.pipeline, at: query.at), version.record.version >= query.atLeast ?? 0 {
                return answer(query, together, .success(version))
            }
            versions.load(query.pipeline, at: query.at) { [weak self] result in
                guard let self else { return }
                answering.submit { [weak self] in self?.answer(query, together, result) }
            }
        } catch { for asked in together { asked.done(.refuse(asked.message.id, error)) } }
    }

    private func answer(_ query: QueryHeader, _ together: [Asked], _ version: Result<ServedVersion, AccrueError>) {
        var understood: [(asked: Asked, tensors: [String: TensorBytes])] = []
        for asked in together {
            do throws(AccrueError) { understood.append((asked, try tensors(query, asked.message, try version.get()))) } catch {
                asked.done(.refuse(asked.message.id, error))
            }
        }
        guard case .success(let version) = version else { return }
        let answers = version.state.answers(
            understood.map { QueryBytes(verb: query.verb, header: query.header, tensors: $0.tensors) }, key: version.key(querySeed: query.seed))
        for (understood, answer) in zip(understood, answers) {
            let asked = understood.asked
            do throws(AccrueError) { asked.done(try reply(query, asked.message, try answer.get(), version)) } catch { asked.done(.refuse(asked.message.id, error)) }
        }
    }

    private func operation(_ query: QueryHeader) -> String { "answering '\(query.verb)' from pipeline '\(query.pipeline)'" }

    /// The question's tensors, within limits, when this version may answer it.
    private func tensors(_ query: QueryHeader, _ message: Message, _ version: ServedVersion) throws(AccrueError) -> [String: TensorBytes] {
        let operation = operation(query)
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
        return tensors
    }

    private func reply(_ query: QueryHeader, _ message: Message, _ answer: QueryBytes, _ version: ServedVersion) throws(AccrueError) -> Message {
        let reply = QueryReply(
            pipeline: query.pipeline, version: version.record.version, absorbedChunks: version.record.absorbedChunks,
            absorbedRows: version.record.absorbedRows, header: answer.header)
        return try .reply(message.id, encoding: reply, payload: try Self.frames(answer.tensors, while: operation(query)))
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
