import AccrueCore
import AccrueWire
import Synchronization

/// Tells the coordinator of chunks, those of one pipeline in the order in which they came: what became durable together goes together, and while an
/// announcement is under way others gather and go in the next. So a busy producer costs the coordinator few messages and few transactions, and a lonely one
/// waits for nobody.
final class Announcer: Sendable {
    typealias Completion = @Sendable (Result<Acknowledgement, AccrueError>) -> Void

    static let timeoutMs = 10_000
    /// Small enough for a header, whatever the keys.
    private static let itemsMax = 128

    private struct Waiting: Sendable {
        var item: Announce.Item
        var completion: Completion
    }
    private struct Queue: Sendable {
        var pipeline: PipelineRecord
        var waiting: [Waiting] = []
        var isUnderWay = false

        /// What goes now, which is then under way.
        mutating func next() -> [Waiting] {
            let batch = Array(waiting.prefix(Announcer.itemsMax))
            waiting.removeFirst(batch.count)
            isUnderWay = !batch.isEmpty
            return batch
        }
    }
    /// By incarnation; present while something waits or is under way.
    private let queues = Mutex<[String: Queue]>([:])
    private let worker: String
    private let control: Requester

    init(worker: String, control: Requester) {
        self.worker = worker
        self.control = control
    }

    /// Puts a chunk among those that go with the next `flush`, or when what is under way is answered.
    /// - Parameter completion: called once, on the loop's thread or on that of `flush`.
    func announce(_ item: Announce.Item, of pipeline: PipelineRecord, completion: @escaping Completion) {
        queues.withLock { $0[pipeline.incarnation, default: Queue(pipeline: pipeline)].waiting.append(Waiting(item: item, completion: completion)) }
    }

    /// Sends what waits, unless something of its pipeline is under way.
    func flush() {
        let batches = queues.withLock { queues in
            var batches: [(batch: [Waiting], pipeline: PipelineRecord)] = []
            for incarnation in Array(queues.keys) where queues[incarnation]?.isUnderWay == false {
                if let pipeline = queues[incarnation]?.pipeline, let batch = queues[incarnation]?.next(), !batch.isEmpty { batches.append((batch, pipeline)) }
            }
            return batches
        }
        for (batch, pipeline) in batches { send(batch, of: pipeline) }
    }

    private func next(of pipeline: PipelineRecord) {
        let batch = queues.withLock { queues -> [Waiting] in
            let batch = queues[pipeline.incarnation]?.next() ?? []
            if batch.isEmpty { queues[pipeline.incarnation] = nil }
            return batch
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
