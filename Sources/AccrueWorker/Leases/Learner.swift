import AccrueCore
import AccrueWire
import Foundation
import Synchronization

/// Works on leases, one after the other: gathers, learns on a thread that yields to everything else, puts the result, says so, asks for the next.
final class Learner: Sendable {
    /// A lease that is being worked on.
    private final class Running: Sendable {
        let lease: LeaseIdentity
        let isCancelled = Atomic(false)
        let steps = Atomic(0)
        init(_ lease: LeaseIdentity) { self.lease = lease }
        /// What the method asks at each step.
        func shouldStop() -> Bool {
            step()
            return isCancelled.load(ordering: .relaxed)
        }
        func step() { steps.add(1, ordering: .relaxed) }
    }

    private struct Shared {
        var running: Running?
        var waiting: [LeaseTask] = []
        var askedAt: MonotonicTime?
        var isJoined = false
        var isStopping = false
        var method: (declaration: PipelineDeclaration, method: any OpaqueMethod)?
    }

    /// Leases that may wait behind the one being worked on; the coordinator gives one at a time.
    private static let waitingMax = 4
    /// A worker without a lease asks again after this long: its request or the lease may have been lost with a connection.
    private static let askAgainMs = 5_000

    private let worker: String
    private let catalog: MethodCatalog
    private let control: Requester
    private let gathering: LeaseGathering
    private let threads: WorkThreads
    private let report: @Sendable (String) -> Void
    private let shared = Mutex(Shared())
    private let arrivals: AsyncStream<Void>
    private let arrived: AsyncStream<Void>.Continuation

    init(
        worker: String, catalog: MethodCatalog, control: Requester, gathering: LeaseGathering, threads: WorkThreads, report: @escaping @Sendable (String) -> Void
    ) {
        self.worker = worker
        self.catalog = catalog
        self.control = control
        self.gathering = gathering
        self.threads = threads
        self.report = report
        (arrivals, arrived) = AsyncStream.makeStream(bufferingPolicy: .unbounded)
    }

    /// A lease came; on the loop's thread.
    func offer(_ task: LeaseTask) {
        let isNew = shared.withLock { shared in
            guard !shared.isStopping, shared.running?.lease != task.identity, !shared.waiting.contains(where: { $0.identity == task.identity }),
                shared.waiting.count < Self.waitingMax
            else { return false }
            shared.waiting.append(task)
            return true
        }
        if isNew { arrived.yield() }
    }

    /// The coordinator wants nothing more of a lease.
    func cancel(_ lease: LeaseIdentity) {
        shared.withLock { shared in
            shared.waiting.removeAll { $0.identity == lease }
            if let running = shared.running, running.lease == lease { running.isCancelled.store(true, ordering: .relaxed) }
        }
    }

    /// After joining: leases of an earlier coordinator are worth nothing; an idle worker asks for work.
    func joined(boot: String) {
        shared.withLock { shared in
            shared.isJoined = true
            shared.waiting.removeAll { $0.identity.boot != boot }
            if let running = shared.running, running.lease.boot != boot { running.isCancelled.store(true, ordering: .relaxed) }
        }
        askIfIdle(afterMs: 0)
    }

    /// What a heartbeat says.
    var heartbeat: Heartbeat {
        let running = shared.withLock { $0.running }
        return Heartbeat(worker: worker, lease: running?.lease, step: running?.steps.load(ordering: .relaxed))
    }

    /// Asks for a lease if there is none and the last request is long ago.
    func askIfIdle(afterMs: Int = askAgainMs) {
        let now = MonotonicTime.now()
        let asks = shared.withLock { shared in
            guard shared.isJoined, !shared.isStopping, shared.running == nil, shared.waiting.isEmpty, shared.askedAt.map({ now.ms(since: $0) >= afterMs }) ?? true
            else { return false }
            shared.askedAt = now
            return true
        }
        if asks, let message = try? Message(.ready, encoding: Ready(worker: worker)) { control.request(message, timeoutMs: 3_000) { _ in } }
    }

    /// Works until `stop`.
    func run() async {
        for await _ in arrivals {
            let running = shared.withLock { shared -> (LeaseTask, Running)? in
                guard !shared.isStopping, !shared.waiting.isEmpty else { return nil }
                let task = shared.waiting.removeFirst()
                let running = Running(task.identity)
                shared.running = running
                return (task, running)
            }
            guard let (task, running) = running else {
                // The lease was cancelled before it was taken up.
                askIfIdle(afterMs: 0)
                continue
            }
            await work(task, running)
            let isStopping = shared.withLock { shared in
                shared.running = nil
                return shared.isStopping
            }
            if isStopping { return }
            askIfIdle(afterMs: 0)
        }
    }

    /// Takes no more leases, and gives those that it has back to the coordinator.
    func stop() async {
        let (running, waiting) = shared.withLock { shared in
            shared.isStopping = true
            defer { shared.waiting = [] }
            return (shared.running, shared.waiting.map(\.identity))
        }
        var given = waiting
        if let running, !running.isCancelled.exchange(true, ordering: .relaxed) { given.append(running.lease) }
        let error = AccrueError(.unavailable, while: "working on a lease", "the worker is stopping", hint: "give it to another worker")
        await withDiscardingTaskGroup { group in
            for lease in given {
                group.addTask { await self.say(LeaseFailed(worker: self.worker, lease: lease, kind: .environment, error: error), timeoutMs: 1_000) }
            }
        }
        arrived.finish()
    }

    private func work(_ task: LeaseTask, _ running: Running) async {
        var kind = LeaseFailed.Kind.environment
        do throws(AccrueError) {
            let method: any OpaqueMethod
            do { method = try await self.method(task.declaration) } catch {
                // Settings and schemas that the method refuses make the pipeline's `apply` fail with the method's own words.
                if task.identity.phase == .initial || task.identity.phase == .check { kind = .method }
                throw error
            }
            let inputs = try await gathering.inputs(of: task) { running.step() }
            let execution = LeaseExecution(method: method, task: task) { running.shouldStop() }
            try execution.check(inputs)
            if running.isCancelled.load(ordering: .relaxed) { return }
            let product = await threads.run { () -> Result<LeaseExecution.Product, AccrueError> in
                do throws(AccrueError) { return .success(try execution.perform(inputs)) } catch { return .failure(error) }
            }
            if running.isCancelled.load(ordering: .relaxed) { return }
            kind = .method
            let made = try product.get()
            kind = .environment
            var hash: ContentHash?
            if let blob = made.blob, let blobKind = made.kind { hash = try await gathering.put(blob, kind: blobKind) { running.step() } }
            let done = LeaseDone(
                worker: worker, lease: task.identity, blob: hash, score: made.score, report: made.report, phases: made.phases, remarks: made.remarks)
            // What cannot be written the method should not have said: given again, it would be said again.
            kind = .method
            let message = try Message(.done, encoding: done)
            await say(message, timeoutMs: 30_000)
        } catch {
            if running.isCancelled.load(ordering: .relaxed) { return }
            report("\(task.identity.phase.rawValue) of version \(task.identity.version) of pipeline '\(task.identity.pipeline)' failed (\(kind.rawValue)): \(error.problem)")
            await say(LeaseFailed(worker: worker, lease: task.identity, kind: kind, error: error), timeoutMs: 30_000)
        }
    }

    private func say(_ failed: LeaseFailed, timeoutMs: Int) async {
        if let message = try? Message(.failed, encoding: failed) { await say(message, timeoutMs: timeoutMs) }
    }

    private func say(_ message: Message, timeoutMs: Int) async {
        do throws(AccrueError) { _ = try await control.request(message, timeoutMs: timeoutMs) } catch {
            // Without an answer the lease expires and is given again; nothing is lost.
            report("the coordinator did not take '\(message.verb)': \(error.problem)")
        }
    }

    private func method(_ declaration: PipelineDeclaration) async throws(AccrueError) -> any OpaqueMethod {
        if let last = shared.withLock({ $0.method }), last.declaration == declaration { return last.method }
        let catalog = catalog
        let made = try await threads.run { () -> Result<any OpaqueMethod, AccrueError> in
            do throws(AccrueError) { return .success(try catalog.make(declaration)) } catch { return .failure(error) }
        }.get()
        shared.withLock { $0.method = (declaration, made) }
        return made
    }
}
