import AccrueCore
import AccrueStore
import AccrueTesting
import AccrueWire
import Foundation
import Testing

@testable import AccrueCoordinator

/// A coordinator on a stage: every message is a line of the test, time passes when the test says so, and the store is a log in memory that answers
/// at once (or, while it is `slow`, when told to).
struct Scene {
    private(set) var coordinator: Coordinator
    private(set) var nowMs = 1_000_000
    private(set) var sent: [(to: String, message: Message)] = []
    private(set) var hints: [Hint] = []
    var isSlow = false
    /// What the store says to the next change instead of making it.
    var refusal: AccrueError?
    private var asked: [(number: Int, change: StoreChange)] = []
    private var logs: [String: [LogEntry]] = [:]
    private var lastID = 0

    init(recovered: [RecoveredPipeline] = []) {
        coordinator = Coordinator(
            boot: "boot", endpoints: Endpoints(bulk: "bulk", events: "events"), recovered: recovered,
            at: Moment(monotonic: MonotonicTime(nanoseconds: 1_000_000_000_000), wallMs: 5_000))
        for pipeline in recovered { logs[pipeline.stored.incarnation] = pipeline.entries }
    }

    private var now: Moment { Moment(monotonic: MonotonicTime(nanoseconds: UInt64(nowMs) * 1_000_000), wallMs: nowMs) }

    private mutating func feed(_ event: CoordinatorEvent) {
        for effect in coordinator.receive(event, at: now) {
            switch effect {
            case .send(let message, let peer): sent.append((String(decoding: peer.bytes, as: UTF8.self), message))
            case .hint(let hint): hints.append(hint)
            case .store(let number, let change): asked.append((number, change))
            }
        }
        if !isSlow { store() }
    }

    /// Lets the store make what it was asked for.
    mutating func store() {
        while !asked.isEmpty {
            let next = asked.removeFirst()
            let outcome: StoreOutcome
            if let refusal {
                outcome = .refused(refusal)
                self.refusal = nil
            } else { outcome = make(next.change) }
            feed(.stored(number: next.number, outcome))
        }
    }

    private mutating func make(_ change: StoreChange) -> StoreOutcome {
        switch change {
        case .append(let chunks, let incarnation): .appended(chunks.map { append($0.chunk, incarnation) })
        case .appendEntry(let kind, let incarnation): .position(append(kind, incarnation))
        case .retry(let position, let incarnation): .position(append(logs[incarnation, default: []][position - 1].kind, incarnation))
        case .create, .delete, .setPaused: .done(bytes: 0)
        case .publish: .done(bytes: 7)
        }
    }

    private mutating func append(_ kind: LogEntry.Kind, _ incarnation: String) -> Int {
        let position = logs[incarnation, default: []].count + 1
        logs[incarnation, default: []].append(LogEntry(position: position, kind: kind))
        return position
    }

    private mutating func append(_ chunk: LogEntry.Chunk, _ incarnation: String) -> AppendResult {
        for entry in logs[incarnation, default: []] {
            guard case .chunk(let old) = entry.kind, old.key == chunk.key, chunk.key != nil || old.identity == chunk.identity else { continue }
            return old.identity == chunk.identity ? .duplicate(position: entry.position) : .conflict(position: entry.position)
        }
        return .appended(position: append(.chunk(chunk), incarnation))
    }

    // Lines.

    /// Says something to the coordinator.
    /// - Returns: the id under which the answer comes.
    @discardableResult
    mutating func say(_ verb: Verb, _ header: some Encodable, from peer: String = "person", key: PublicKey? = nil, id: String? = nil) throws -> String {
        lastID += 1
        let id = id ?? "\(lastID)"
        feed(.message(try Message(verb, id: id, encoding: header), from: Peer(Data(peer.utf8)), key: key))
        return id
    }

    /// Says something and reads the answer that comes at once.
    mutating func ask<Answer: Decodable>(_ verb: Verb, _ header: some Encodable, as _: Answer.Type = Answer.self, from peer: String = "person") throws -> Answer {
        let id = try say(verb, header, from: peer)
        return try answer(id)
    }

    /// Says something that is to be refused at once.
    /// - Returns: the code of the refusal.
    mutating func refused(_ verb: Verb, _ header: some Encodable, from peer: String = "person", key: PublicKey? = nil) throws -> AccrueError.Code? {
        let id = try say(verb, header, from: peer, key: key)
        return refusal(id)
    }

    func answer<Answer: Decodable>(_ id: String, as _: Answer.Type = Answer.self) throws -> Answer {
        let message = try #require(sent.last { $0.message.id == id }?.message)
        if let refusal = message.refusal { throw refusal }
        return try message.read()
    }

    func isAnswered(_ id: String) -> Bool { sent.contains { $0.message.id == id } }

    /// The code of the refusal that a request got.
    func refusal(_ id: String) -> AccrueError.Code? { sent.last { $0.message.id == id }?.message.refusal?.code }

    /// Time passes, in ticks; workers that are named beat meanwhile.
    mutating func pass(ms: Int, beating workers: [String] = []) throws {
        let end = nowMs + ms
        while nowMs < end {
            nowMs = min(end, nowMs + 500)
            for worker in workers { try say(.heartbeat, Heartbeat(worker: worker), from: worker) }
            feed(.tick)
        }
    }

    /// The list of authorised keys is this one now.
    mutating func authorise(_ keys: [AuthorisedKey]) { feed(.authorised(keys)) }

    // Workers.

    mutating func join(_ worker: String, boot: String = "1", holding items: [InventoryItem] = []) throws {
        try say(.hello, Hello(role: .worker, name: worker, boot: boot, endpoint: "at-\(worker)"), from: worker)
        try say(.inventory, Inventory(worker: worker, page: 0, last: true, items: items), from: worker)
        try say(.ready, Ready(worker: worker), from: worker)
    }

    /// The last lease that a worker was given.
    func lease(_ worker: String) -> LeaseTask? {
        sent.last { $0.to == worker && $0.message.known == .lease }.flatMap { try? $0.message.read() }
    }

    func told<Header: Decodable>(_ worker: String, _ verb: Verb, as _: Header.Type = Header.self) -> [Header] {
        sent.filter { $0.to == worker && $0.message.known == verb }.compactMap { try? $0.message.read() }
    }

    mutating func forgetSent() { sent = [] }

    /// The worker does its lease, with a made-up result, and asks for the next.
    /// - Parameter remarks: what the result says to people.
    mutating func finish(_ worker: String, remarks: [Remark]? = nil) throws {
        let task = try #require(lease(worker))
        let blob = ContentHash(of: Data("\(task.identity)".utf8))
        let done = LeaseDone(
            worker: worker, lease: task.identity, blob: blob, report: task.identity.phase == .fit ? FitReport(steps: 1) : nil,
            phases: task.identity.phase == .initial ? MethodPhases(scores: false, statistics: false) : nil, remarks: remarks)
        try say(.done, done, from: worker)
        try say(.ready, Ready(worker: worker), from: worker)
    }

    mutating func fail(_ worker: String, _ kind: LeaseFailed.Kind, position: Int? = nil, id: String? = nil) throws {
        let task = try #require(lease(worker))
        let error = AccrueError(kind == .method ? .diverged : .unavailable, while: "fitting", "it went wrong", position: position)
        try say(.failed, LeaseFailed(worker: worker, lease: task.identity, kind: kind, error: error), from: worker, id: id)
        try say(.ready, Ready(worker: worker), from: worker)
    }

    /// Applies a pipeline; a worker that is ready makes its version 0.
    mutating func apply(_ pipeline: PipelineDeclaration, by worker: String = "a") throws -> String {
        let id = try say(.pipelineApply, Apply(declaration: pipeline))
        try finish(worker)
        return try answer(id, as: Applied.self).incarnation
    }

    static func chunk(_ name: String, key: String? = nil) -> LogEntry.Chunk { LogEntry.Chunk(identity: ContentHash(of: Data(name.utf8)), key: key, rows: 2, bytes: 16) }

    /// A worker announces a chunk.
    @discardableResult
    mutating func push(_ name: String, key: String? = nil, to worker: String = "a", _ incarnation: String, pipeline: String = "chain") throws -> Acknowledgement {
        let id = try say(.announce, Announce(worker: worker, pipeline: pipeline, incarnation: incarnation, items: [.init(Self.chunk(name, key: key))]), from: worker)
        return try acknowledgement(id, name)
    }

    /// What an announcement of one chunk came to.
    func acknowledgement(_ id: String, _ name: String) throws -> Acknowledgement {
        let result = try #require(try answer(id, as: AnnounceReply.self).results.first)
        return try result.acknowledgement(of: Self.chunk(name).identity)
    }

    func status(_ name: String = "chain") throws -> PipelineStatus { try #require(coordinator.status.pipelines.first { $0.name == name }) }
}
