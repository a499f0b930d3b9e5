import AccrueCore
import AccrueStore
import AccrueWire

// Who does what: giving leases, and taking what comes back.
extension Coordinator {
    /// After every event: rounds that can begin begin, and idle workers get what is open.
    mutating func advance(_ now: Moment) {
        for incarnation in pipelines.keys.sorted() {
            startChange(incarnation, at: now)
            pipelines[incarnation]?.beginRound()
        }
        giveLeases(now)
    }

    private mutating func giveLeases(_ now: Moment) {
        let idle = sessions.values.filter { $0.isAlive && $0.isReady && $0.lease == nil && $0.role == .worker }.map(\.name).sorted()
        guard !idle.isEmpty else { return }
        let alive = aliveWorkers
        for worker in idle {
            guard let task = nextTask(for: worker, alive: alive, at: now) else { continue }
            leases.give(task.identity, to: worker, at: now.monotonic)
            sessions[worker]?.lease = task.identity
            sessions[worker]?.isReady = false
            sessions[worker]?.step = nil
            tell(worker, .lease, task)
        }
    }

    private func nextTask(for worker: String, alive: Set<String>, at now: Moment) -> LeaseTask? {
        func mayHave(_ lease: LeaseIdentity) -> Bool {
            leases.mayGive(lease, at: now.monotonic) && (leases.avoids(lease) != worker || alive.count == 1)
        }
        for name in creations.keys.sorted() {
            if let task = creations[name]?.task(boot), mayHave(task.identity) { return task }
        }
        for number in proposals.keys.sorted() {
            if let task = trial(number), mayHave(task.identity) { return task }
        }
        // Pipelines with the fewest workers first, so that none waits for another's long rounds.
        let busy = pipelines.mapValues { leases.workers(incarnation: $0.incarnation) }
        for pipeline in pipelines.values.sorted(by: { (busy[$0.incarnation] ?? 0, $0.name) < (busy[$1.incarnation] ?? 0, $1.name) }) {
            guard pipeline.paused == nil, !pipeline.isPublishing, let round = pipeline.round else { continue }
            let open = round.openPieces.filter { piece in
                mayHave(identity(piece, pipeline, round)) && round.rows(of: piece).allSatisfy { !(pipeline.holders[$0.identity]?.isDisjoint(with: alive) ?? true) }
            }
            guard let first = open.first else { continue }
            // Of pieces that are equally urgent, one whose rows the worker has.
            let own = open.first { piece in
                piece.phase == first.phase && round.rows(of: piece).allSatisfy { pipeline.holders[$0.identity]?.contains(worker) ?? false }
            }
            return task(own ?? first, pipeline, round)
        }
        return nil
    }

    private func identity(_ piece: Piece, _ pipeline: PipelineLearning, _ round: RoundProgress) -> LeaseIdentity {
        LeaseIdentity(
            pipeline: pipeline.name, incarnation: pipeline.incarnation, boot: boot, version: round.version, attempt: round.attempt, phase: piece.phase,
            sweep: piece.sweep, shard: piece.shard)
    }

    private func task(_ piece: Piece, _ pipeline: PipelineLearning, _ round: RoundProgress) -> LeaseTask {
        var locations: [String: [String]] = [:]
        for range in round.rows(of: piece) {
            let holders = (pipeline.holders[range.identity] ?? []).sorted()
            locations[range.identity.hex] = holders.compactMap { sessions[$0].flatMap { $0.isAlive ? $0.endpoint : nil } }
        }
        return round.task(piece, identity: identity(piece, pipeline, round), locations: locations)
    }

    /// The task of a lease that is still wanted.
    func task(for lease: LeaseIdentity) -> LeaseTask? {
        if lease.phase == .initial { return creations[lease.pipeline]?.task(boot).flatMap { $0.identity == lease ? $0 : nil } }
        if lease.phase == .check { return trial(lease.attempt).flatMap { $0.identity == lease ? $0 : nil } }
        guard let pipeline = pipelines[lease.incarnation], let round = pipeline.round, let piece = openPiece(lease) else { return nil }
        return task(piece, pipeline, round)
    }

    /// The piece that a lease is for, if the round still waits for it.
    private func openPiece(_ lease: LeaseIdentity) -> Piece? {
        let piece = Piece(phase: lease.phase, sweep: lease.sweep, shard: lease.shard)
        guard lease.boot == boot, let round = pipelines[lease.incarnation]?.round, round.version == lease.version, round.attempt == lease.attempt,
            round.openPieces.contains(piece)
        else { return nil }
        return piece
    }

    mutating func done(_ done: LeaseDone, _ asker: Asker, at now: Moment) throws(AccrueError) {
        let name = try session(done.worker, asker)
        release(done.lease, of: name, at: now)
        acknowledge(asker)
        if done.lease.phase == .initial { return initialMade(done, at: now) }
        if done.lease.phase == .check { return tried(done.lease, at: now) }
        guard let piece = openPiece(done.lease), pipelines[done.lease.incarnation]?.round?.take(piece, done) == true else { return }
        for held in leases.forget(incarnation: done.lease.incarnation, only: done.lease) { cancel(held.lease, held.worker) }
        guard let round = pipelines[done.lease.incarnation]?.round, case .made(let state) = round.step,
            let version = pipelines[done.lease.incarnation]?.made(state, at: now)
        else { return }
        pipelines[done.lease.incarnation]?.isPublishing = true
        pipelines[done.lease.incarnation]?.changes.add(.publish(version))
    }

    mutating func failed(_ failed: LeaseFailed, _ asker: Asker, at now: Moment) throws(AccrueError) {
        let name = try session(failed.worker, asker)
        release(failed.lease, of: name, at: now)
        acknowledge(asker)
        let lease = failed.lease
        if lease.phase == .initial, failed.kind == .method { return initialFailed(lease, failed.error) }
        if lease.phase == .check, trialFailed(failed) { return }
        guard task(for: lease) != nil else { return }
        switch failed.kind {
        case .environment:
            leases.postpone(lease, for: failed.error.problem, at: now.monotonic, timing)
            note("leaseLost", lease.pipeline, "\(Self.name(lease)) on worker '\(name)': \(failed.error.problem)", at: now)
        case .method:
            guard let error = leases.methodFailed(lease, on: name, asker, failed.error) else {
                return note("leaseLost", lease.pipeline, "\(Self.name(lease)) failed and is tried once more: \(failed.error.problem)", at: now)
            }
            setAside(error, lease)
        }
    }

    /// The method's error is confirmed: the chunk that it names, else all that the piece read, is not learned.
    private mutating func setAside(_ error: AccrueError, _ lease: LeaseIdentity) {
        guard let round = pipelines[lease.incarnation]?.round else { return }
        if case .adapt = round.stretch.change {
            // What follows needs the new classes: it cannot be left out.
            pipelines[lease.incarnation]?.changes.add(.pause("the method cannot take the classes appended at position \(round.stretch.through): \(error.problem)", nil))
            return
        }
        let own = round.stretch.positions
        let positions: [Int]
        if let position = error.position, own.contains(position) { positions = [position] } else {
            positions = round.positions(of: Piece(phase: lease.phase, sweep: lease.sweep, shard: lease.shard))
        }
        pipelines[lease.incarnation]?.changes.add(.setAside(positions: positions, reason: "\(error.code.rawValue): \(error.problem)", nil))
    }

    private mutating func release(_ lease: LeaseIdentity, of worker: String, at now: Moment) {
        sessions[worker]?.heardAt = now.monotonic
        if sessions[worker]?.lease == lease { sessions[worker]?.lease = nil }
        _ = leases.end(lease, of: worker)
    }

    /// Nothing of an incarnation's leases is wanted any more.
    mutating func cancelLeases(_ incarnation: String) {
        for held in leases.forget(incarnation: incarnation).sorted(by: { $0.worker < $1.worker }) { cancel(held.lease, held.worker) }
    }

    private mutating func cancel(_ lease: LeaseIdentity, _ worker: String) {
        tell(worker, .cancel, Cancel(lease: lease))
        if sessions[worker]?.lease == lease { sessions[worker]?.lease = nil }
    }

    mutating func tick(_ now: Moment) {
        findDead(now)
        for stalled in leases.stalled(at: now.monotonic, afterMs: timing.stallMs).sorted(by: { $0.worker < $1.worker }) {
            _ = leases.end(stalled.lease, of: stalled.worker)
            cancel(stalled.lease, stalled.worker)
            leases.postpone(stalled.lease, for: "it stood still for \(timing.stallMs) ms", at: now.monotonic, timing)
            note("leaseLost", stalled.lease.pipeline, "\(Self.name(stalled.lease)) stood still on worker '\(stalled.worker)' for \(timing.stallMs) ms", at: now)
        }
        let alive = aliveWorkers
        for incarnation in pipelines.keys.sorted() {
            cutIfLingering(incarnation, at: now)
            findBlocked(incarnation, alive: alive, at: now)
        }
        endAwaiting(now)
        endCreations(now)
    }

    private mutating func cutIfLingering(_ incarnation: String, at now: Moment) {
        guard let pipeline = pipelines[incarnation], let linger = pipeline.declaration.round.linger, let since = pipeline.openSince,
            Double(now.monotonic.ms(since: since)) >= linger * 1_000, !pipeline.changes.holdsCut
        else { return }
        pipelines[incarnation]?.changes.add(.cut(nil))
    }

    private mutating func findBlocked(_ incarnation: String, alive: Set<String>, at now: Moment) {
        pipelines[incarnation]?.findLacking(alive: alive, at: now)
        guard let pipeline = pipelines[incarnation] else { return }
        let isBlocked = pipeline.lackingSince.map { now.monotonic.ms(since: $0.monotonic) >= timing.blockedAfterMs } ?? false
        guard isBlocked != pipeline.isBlocked else { return }
        pipelines[incarnation]?.isBlocked = isBlocked
        hint(.pipeline, pipeline.name)
        if isBlocked, let reason = pipelines[incarnation]?.status().reason {
            note("blocked", pipeline.name, reason, at: now)
        } else {
            note("resumed", pipeline.name, "all rows of the round can be had again", at: now)
        }
    }
}
