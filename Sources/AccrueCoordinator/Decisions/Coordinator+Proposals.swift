import AccrueCore
import AccrueStore
import AccrueWire

/// An entry that was asked for: before it is in the log a worker tries it on the newest version, so that what does not fit is refused and leaves no trace.
struct Proposal: Sendable {
    var incarnation: String
    var change: Stretch.Change
    var askers: Set<Asker>
    /// The schema that it was found to fit; nil: not tried yet.
    var fits: Schema?

    /// What is imported is kept in memory until it is tried and on disk.
    var file: ContentHash? { if case .adopt(let imported) = change { imported.file } else { nil } }
}

extension Coordinator {
    mutating func importPosterior(_ request: PosteriorImport, _ asker: Asker) throws(AccrueError) {
        let pipeline = try pipeline(request.pipeline)
        let operation = "importing into pipeline '\(request.pipeline)'"
        if let key = request.key, key.isEmpty || key.utf8.count > Limits.keyBytesMax {
            throw AccrueError(
                .limitExceeded, while: operation, "the key has \(key.utf8.count) bytes; 1 to \(Limits.keyBytesMax) are allowed", hint: "choose a shorter key, or none")
        }
        try propose(.adopt(.init(file: request.hash, key: request.key)), pipeline, asker, while: operation)
    }

    /// Asks for an entry; the same one is proposed once, however often it is asked for, and is not in the log twice.
    mutating func propose(_ change: Stretch.Change, _ pipeline: PipelineLearning, _ asker: Asker, while operation: String) throws(AccrueError) {
        if let position = pipeline.log.position(of: change) { return accepted(change, pipeline, at: position, isNew: false, [asker]) }
        if let number = proposals.keys.sorted().first(where: { proposals[$0]?.incarnation == pipeline.incarnation && proposals[$0]?.change == change }) {
            proposals[number]?.askers.insert(asker)
            return
        }
        guard !aliveWorkers.isEmpty else {
            throw AccrueError(.unavailable, while: operation, "no worker has joined, and one must see whether it fits", hint: "start 'accrue worker'", retryAfterMs: 500)
        }
        guard proposals.count < Self.proposalsMax else {
            throw AccrueError(.unavailable, while: operation, "\(proposals.count) imports and changes are being tried", hint: "wait", retryAfterMs: 1_000)
        }
        proposals[nextNumber()] = Proposal(incarnation: pipeline.incarnation, change: change, askers: [asker])
    }

    private static let proposalsMax = 64

    /// The trial of a proposal; nil while there is nothing to try, or the newest version does not have the newest schema yet.
    func trial(_ number: Int) -> LeaseTask? {
        guard let proposal = proposals[number], proposal.fits == nil, let pipeline = pipelines[proposal.incarnation] else { return nil }
        let schema = pipeline.schema(through: pipeline.newest.through)
        guard schema == pipeline.declaration.schema else { return nil }
        let identity = LeaseIdentity(
            pipeline: pipeline.name, incarnation: pipeline.incarnation, boot: boot, version: pipeline.newest.version + 1, attempt: number, phase: .check)
        var task = LeaseTask(identity: identity, declaration: pipeline.declaration, base: pipeline.newest.state)
        switch proposal.change {
        case .adopt(let imported): task.imported = imported.file
        case .adapt(let later):
            task.from = schema
            task.declaration = pipeline.declaration.with(schema: later)
        }
        return task
    }

    /// It fits: its entry is appended, unless the schema has changed since it was tried.
    mutating func tried(_ lease: LeaseIdentity, at now: Moment) {
        guard trial(lease.attempt)?.identity == lease, let proposal = proposals[lease.attempt] else { return }
        proposals[lease.attempt]?.fits = pipelines[proposal.incarnation]?.declaration.schema
        pipelines[proposal.incarnation]?.changes.add(.propose(lease.attempt))
        startChange(proposal.incarnation, at: now)
    }

    /// The entry of a proposal whose turn has come; nil when there is none to append (any more, or yet).
    mutating func decided(_ number: Int, _ pipeline: PipelineLearning) -> StoreChange? {
        guard let proposal = proposals[number] else { return nil }
        if let position = pipeline.log.position(of: proposal.change) {
            proposals[number] = nil
            accepted(proposal.change, pipeline, at: position, isNew: false, proposal.askers)
            return nil
        }
        guard proposal.fits == pipeline.declaration.schema else {
            if case .adapt(let later) = proposal.change, !pipeline.declaration.schema.isExtended(by: later) {
                end(number, Self.differs("applying pipeline '\(pipeline.name)'", ["schema"]))
            } else {
                proposals[number]?.fits = nil
            }
            return nil
        }
        return .appendEntry(proposal.change.kind, incarnation: pipeline.incarnation)
    }

    /// The entry is committed.
    mutating func proposed(_ number: Int, _ incarnation: String, at position: Int, _ now: Moment) {
        guard let proposal = proposals.removeValue(forKey: number) else { return }
        pipelines[incarnation]?.append(proposal.change.kind, at: now)
        guard let pipeline = pipelines[incarnation] else { return }
        if case .adapt = proposal.change {
            note("applied", pipeline.name, "classes are appended, by log entry \(position)", at: now)
            hint(.pipeline, pipeline.name)
        }
        accepted(proposal.change, pipeline, at: position, isNew: true, proposal.askers)
    }

    private mutating func accepted(_ change: Stretch.Change, _ pipeline: PipelineLearning, at position: Int, isNew: Bool, _ askers: Set<Asker>) {
        for asker in askers.sorted() {
            switch change {
            case .adopt: reply(asker, Imported(position: position, duplicate: !isNew))
            case .adapt: reply(asker, Applied(name: pipeline.name, incarnation: pipeline.incarnation, version: pipeline.newest.version, position: position))
            }
        }
    }

    /// A proposal is not made: those who asked are told why.
    mutating func end(_ number: Int, _ error: AccrueError) {
        guard let proposal = proposals.removeValue(forKey: number) else { return }
        for asker in proposal.askers.sorted() { refuse(asker, error) }
    }

    mutating func endProposals(_ incarnation: String, _ error: AccrueError) {
        for number in proposals.keys.sorted() where proposals[number]?.incarnation == incarnation { end(number, error) }
    }

    /// A trial failed: by the method's own words, or because the file is not in memory any more, as after a restart.
    /// - Returns: whether the proposal is ended by it.
    mutating func trialFailed(_ failed: LeaseFailed) -> Bool {
        guard trial(failed.lease.attempt)?.identity == failed.lease else { return false }
        switch failed.kind {
        case .method: end(failed.lease.attempt, failed.error)
        case .environment:
            guard failed.error.code == .notFound, let file = proposals[failed.lease.attempt]?.file else { return false }
            end(failed.lease.attempt, Self.isGone(file, failed.lease.pipeline))
        }
        return true
    }

    static func isGone(_ file: ContentHash, _ pipeline: String) -> AccrueError {
        AccrueError(
            .unavailable, while: "importing into pipeline '\(pipeline)'", "the bytes of \(file.short) are not here", hint: "put the file again by blob.put, then import it again")
    }
}
