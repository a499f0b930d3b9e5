import AccrueCore
import AccrueWire
import Synchronization

/// The coordinator's pipelines, as last heard; asked for again when they have changed or one is not among them.
final class KnownPipelines: Sendable {
    typealias Ask = @Sendable (@escaping @Sendable (Result<PipelineListing, AccrueError>) -> Void) -> Void

    private struct Shared {
        var records: [String: PipelineRecord] = [:]
        var hash: ContentHash?
        var waiting: [@Sendable (AccrueError?) -> Void] = []
        var isAsking = false
    }

    private let ask: Ask
    private let shared = Mutex(Shared())

    init(ask: @escaping Ask) { self.ask = ask }

    convenience init(from control: Requester) {
        self.init { completion in
            control.request(Message(.pipelines), timeoutMs: 5_000) { result in
                completion(result.flatMap { message in
                    do throws(AccrueError) { return .success(try message.read(PipelineListing.self)) } catch { return .failure(error) }
                })
            }
        }
    }

    subscript(name: String) -> PipelineRecord? { shared.withLock { $0.records[name] } }

    /// Asks the coordinator, once for all who wait.
    func refresh(_ done: @escaping @Sendable (AccrueError?) -> Void) {
        let isFirst = shared.withLock { shared in
            shared.waiting.append(done)
            defer { shared.isAsking = true }
            return !shared.isAsking
        }
        if isFirst { ask { [weak self] in self?.take($0) } }
    }

    func refresh() async throws(AccrueError) {
        let error = await withCheckedContinuation { continuation in refresh { continuation.resume(returning: $0) } }
        if let error { throw error }
    }

    /// What a heartbeat said: asks again when the pipelines have changed.
    func note(_ hash: ContentHash) {
        if shared.withLock({ $0.hash != hash && !$0.isAsking }) { refresh { _ in } }
    }

    private func take(_ result: Result<PipelineListing, AccrueError>) {
        var failure: AccrueError?
        let waiting = shared.withLock { shared in
            switch result {
            case .success(let listing):
                shared.records = Dictionary(listing.pipelines.map { ($0.declaration.name, $0) }) { _, last in last }
                shared.hash = listing.hash
            case .failure(let error): failure = error
            }
            shared.isAsking = false
            defer { shared.waiting = [] }
            return shared.waiting
        }
        for done in waiting { done(failure) }
    }
}
