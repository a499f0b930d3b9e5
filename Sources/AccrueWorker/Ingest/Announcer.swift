import AccrueCore
import AccrueWire
import Synchronization

/// Tells the coordinator of chunks, those of one pipeline in the order in which they came: while an announcement is under way others gather, and go
/// together in the next. So a busy producer costs the coordinator few messages and few transactions, and a lonely one waits for nobody.
final class Announcer: Sendable {
    typealias Completion = @Sendable (Result<Acknowledgement, AccrueError>) -> Void

    static let timeoutMs = 10_000
    /// Small enough for a header, whatever the keys.
    private static let itemsMax = 128

    private struct Waiting: Sendable {
        var item: Announce.Item
        var completion: Completion
    }
    /// By incarnation; present while an announcement of it is under way.
    private let waiting = Mutex<[String: [Waiting]]>([:])
    private let worker: String
    private let control: Requester

    init(worker: String, control: Requester) {
        self.worker = worker
        self.control = control
    }

    /// - Parameter completion: called once, on the loop's thread or on this one.
    func announce(_ item: Announce.Item, of pipeline: PipelineRecord, completion: @escaping Completion) {
        let new = Waiting(item: item, completion: completion)
        let isFirst = waiting.withLock { waiting in
            if waiting[pipeline.incarnation] != nil {
                waiting[pipeline.incarnation]?.append(new)
                return false
            }
            waiting[pipeline.incarnation] = []
            return true
        }
        if isFirst { send([new], of: pipeline) }
    }

    private func next(of pipeline: PipelineRecord) {
        let batch = waiting.withLock { waiting -> [Waiting] in
            let all = waiting[pipeline.incarnation] ?? []
            // Nobody waits: the next one to come goes at once.
            waiting[pipeline.incarnation] = all.isEmpty ? nil : Array(all.dropFirst(Self.itemsMax))
            return Array(all.prefix(Self.itemsMax))
        }
        if !batch.isEmpty { send(batch, of: pipeline) }
    }

    private func send(_ batch: [Waiting], of pipeline: PipelineRecord) {
        let announce = Announce(worker: worker, pipeline: pipeline.declaration.name, incarnation: pipeline.incarnation, items: batch.map(\.item))
        let message: Message
        do { message = try Message(.announce, encoding: announce) } catch { return finish(batch, .failure(error), of: pipeline) }
        // Not patient: the coordinator's "busy" is the producer's to obey.
        control.request(message, timeoutMs: Self.timeoutMs, patient: false) { [self] result in
            finish(batch, result.flatMap { Self.results(in: $0, count: batch.count) }, of: pipeline)
        }
    }

    private static func results(in answer: Message, count: Int) -> Result<[AnnounceReply.Result], AccrueError> {
        do throws(AccrueError) {
            let reply = try answer.read(AnnounceReply.self)
            try reply.check(items: count)
            return .success(reply.results)
        } catch { return .failure(error) }
    }

    private func finish(_ batch: [Waiting], _ results: Result<[AnnounceReply.Result], AccrueError>, of pipeline: PipelineRecord) {
        // Before the answers: who is answered may push again at once.
        next(of: pipeline)
        for (index, waiting) in batch.enumerated() {
            do throws(AccrueError) { waiting.completion(.success(try results.get()[index].acknowledgement(of: waiting.item.chunk.identity))) } catch {
                waiting.completion(.failure(error))
            }
        }
    }
}
