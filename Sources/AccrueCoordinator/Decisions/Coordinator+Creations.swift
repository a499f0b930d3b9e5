import AccrueCore
import AccrueStore
import AccrueWire

/// A pipeline that was asked for: a worker makes its version 0, and with it says whether the method takes the settings.
struct Creation: Sendable {
    var declaration: PipelineDeclaration
    var incarnation: String
    var askers: Set<Asker>
    var phases: MethodPhases?
    /// Version 0, on its way to the store.
    var state: ContentHash?

    func task(_ boot: String) -> LeaseTask? {
        guard state == nil else { return nil }
        let identity = LeaseIdentity(pipeline: declaration.name, incarnation: incarnation, boot: boot, version: 0, attempt: 0, phase: .initial)
        return LeaseTask(identity: identity, declaration: declaration)
    }
}

extension Coordinator {
    /// - Parameter declared: read as if it were a file: what is missing has its default, what is not known is refused.
    mutating func apply(_ declared: JSONValue, _ asker: Asker) throws(AccrueError) {
        let declaration = try PipelineDeclaration(parsing: declared)
        let name = declaration.name
        let operation = "applying pipeline '\(name)'"
        if let incarnation = names[name], let pipeline = pipelines[incarnation] {
            let now = pipeline.declaration, differences = now.differences(from: declaration)
            if differences.isEmpty { return reply(asker, Applied(name: name, incarnation: incarnation, version: pipeline.newest.version)) }
            guard differences == ["schema"], now.schema.isExtended(by: declaration.schema) else { throw Self.differs(operation, differences) }
            return try propose(.adapt(declaration.schema), pipeline, asker, while: operation)
        }
        if let creation = creations[name] {
            let differences = creation.declaration.differences(from: declaration)
            guard differences.isEmpty else { throw Self.differs(operation, differences) }
            creations[name]?.askers.insert(asker)
            return
        }
        guard pipelines.count + creations.count < Limits.pipelinesMax else {
            throw AccrueError(.limitExceeded, while: operation, "there are \(pipelines.count) pipelines; at most \(Limits.pipelinesMax) are allowed", hint: "delete one")
        }
        guard !aliveWorkers.isEmpty else { throw Self.noWorker(operation) }
        let incarnation = ContentHash(of: .init("\(boot)/\(nextNumber())".utf8)).short
        creations[name] = Creation(declaration: declaration, incarnation: incarnation, askers: [asker])
    }

    mutating func initialMade(_ done: LeaseDone, at now: Moment) {
        let name = done.lease.pipeline
        guard let creation = creations[name], creation.incarnation == done.lease.incarnation, creation.state == nil, let state = done.blob, let phases = done.phases
        else { return }
        creations[name]?.state = state
        creations[name]?.phases = phases
        _ = store(
            .create(creation.declaration, incarnation: creation.incarnation, phases: phases, state: state, createdAtMs: now.wallMs), for: .creation(name: name))
    }

    mutating func initialFailed(_ lease: LeaseIdentity, _ error: AccrueError) {
        guard let creation = creations[lease.pipeline], creation.incarnation == lease.incarnation, creation.state == nil else { return }
        end(creation, error)
    }

    mutating func created(_ name: String, _ outcome: StoreOutcome, at now: Moment) {
        guard let creation = creations[name], let state = creation.state, let phases = creation.phases else { return }
        guard case .done(let bytes) = outcome else {
            if case .refused(let error) = outcome { end(creation, error) }
            return
        }
        creations[name] = nil
        cancelLeases(creation.incarnation)
        let first = VersionRecord(version: 0, state: state, bytes: bytes, through: 0, absorbedChunks: 0, absorbedRows: 0, createdAtMs: now.wallMs)
        pipelines[creation.incarnation] = PipelineLearning(
            declaration: creation.declaration, incarnation: creation.incarnation, phases: phases, versions: [first], at: now)
        names[name] = creation.incarnation
        note("applied", name, "the pipeline learns by \(creation.declaration.method)", at: now)
        hint(.pipeline, name)
        let applied = Applied(name: name, incarnation: creation.incarnation, version: 0)
        for asker in creation.askers.sorted() { reply(asker, applied) }
    }

    /// Nobody is there to make version 0, or to try what is proposed: those who asked are told to ask again.
    mutating func endCreations(_ now: Moment) {
        guard aliveWorkers.isEmpty else { return }
        for name in creations.keys.sorted() {
            if let creation = creations[name], creation.state == nil { end(creation, Self.noWorker("applying pipeline '\(name)'")) }
        }
        for number in proposals.keys.sorted() where proposals[number]?.fits == nil {
            end(number, AccrueError(.unavailable, while: "trying an import or appended classes", "no worker is here to try them", hint: "start 'accrue worker'", retryAfterMs: 500))
        }
    }

    private mutating func end(_ creation: Creation, _ error: AccrueError) {
        creations[creation.declaration.name] = nil
        cancelLeases(creation.incarnation)
        for asker in creation.askers.sorted() { refuse(asker, error) }
    }

    static func differs(_ operation: String, _ keys: [String]) -> AccrueError {
        AccrueError(
            .conflict, while: operation, "a pipeline of this name is declared with another \(keys.joined(separator: ", another "))",
            hint: "only classes may be appended to a target; compare with 'accrue pipeline show', choose another name, or delete it first (its posterior goes with it)")
    }

    private static func noWorker(_ operation: String) -> AccrueError {
        AccrueError(.unavailable, while: operation, "no worker has joined, and one must make version 0", hint: "start 'accrue worker'", retryAfterMs: 500)
    }
}
