import AccrueCore
import AccrueTesting
import AccrueWire
import Foundation

/// Whoever operates the cluster: applies pipelines, flushes, sets aside, retries, resumes, deletes; in the end sees to it that everything is learned.
final class SimulatedPerson {
    private unowned let world: World
    private let requests: Requests
    private let bulk: Requests
    private let name = "person"
    /// As last heard, by pipeline; missing while it is not known to exist.
    private var incarnations: [String: String] = [:]
    private(set) var isContent = false
    /// The newest schema of each incarnation that was accepted or may have been.
    private var classes: [String: [String]] = [:]

    init(_ world: World) {
        self.world = world
        requests = Requests(world, from: name, to: SimulatedCoordinator.control, nonce: name, inOrder: true)
        bulk = Requests(world, from: name, to: SimulatedCoordinator.bulk, nonce: "\(name)-bulk")
    }

    func start() {
        world.network.connect(name) { [weak self] message, _ in
            guard let self else { return }
            _ = requests.receive(message) || bulk.receive(message)
        }
        for pipeline in world.pipelines { apply(pipeline) }
    }

    func apply(_ pipeline: PipelineDeclaration) {
        requests.ask(.pipelineApply, Apply(declaration: pipeline)) { [weak self] (result: Result<Applied, AccrueError>) in
            guard let self else { return }
            switch result {
            case .success(let applied): incarnations[pipeline.name] = applied.incarnation
            case .failure(let error):
                // Three workers may have crashed while they made version 0.
                if error.code != .unavailable, error.code != .engine { world.violated("pipeline '\(pipeline.name)' is not applied: \(error)") }
                world.agenda.after(300) { [weak self] in self?.apply(pipeline) }
            }
        }
    }

    func deleteAndApply(_ pipeline: PipelineDeclaration) {
        guard incarnations.removeValue(forKey: pipeline.name) != nil else { return }
        world.note("person deletes \(pipeline.name)")
        guard let message = try? Message(.pipelineDelete, encoding: PipelineName(pipeline: pipeline.name)) else { return }
        requests.ask(message) { [weak self] result in
            guard let self else { return }
            if case .failure(let error) = result, error.code != .notFound, error.code != .unavailable { world.violated("not deleted: \(error)") }
            apply(pipeline)
        }
    }

    func flush(_ pipeline: String) {
        guard let incarnation = incarnations[pipeline] else { return }
        requests.ask(.flush, PipelineName(pipeline: pipeline)) { [weak self] (result: Result<Flushed, AccrueError>) in
            guard let self, incarnations[pipeline] == incarnation, case .success(let flushed) = result, let position = flushed.position else { return }
            world.witness.flushed(incarnation, position)
        }
    }

    /// Imports one of the files, some of which are meant twice and one of which the method refuses.
    func importFile(_ pipeline: String) {
        guard let incarnation = incarnations[pipeline] else { return }
        let file = world.dice.one(of: world.files.keys.sorted()), key = world.dice.chance(0.3) ? "again-\(world.dice.number(1...3))" : nil
        guard let bytes = world.files[file],
            let put = try? Message(.blobPut, encoding: BlobPut(hash: file, kind: .import, offset: 0, totalBytes: bytes.count), payload: [bytes])
        else { return }
        bulk.ask(put) { [weak self] result in
            guard let self, case .success = result, incarnations[pipeline] == incarnation else { return }
            requests.ask(.posteriorImport, PosteriorImport(pipeline: pipeline, hash: file, key: key)) { [weak self] (result: Result<Imported, AccrueError>) in
                guard let self, incarnations[pipeline] == incarnation else { return }
                switch result {
                case .success(let imported): world.witness.changed(incarnation, .import(.init(file: file, key: key)), imported.position)
                case .failure(let error):
                    let isRefused = bytes == HashChain.refused && error.code == .invalidInput
                    if !isRefused, error.code != .unavailable, error.code != .engine, error.code != .notFound { world.violated("not imported: \(error)") }
                }
            }
        }
    }

    /// Applies a pipeline with one class more than it has as far as this person knows; now and then with one that the method refuses.
    func appendClass(_ pipeline: PipelineDeclaration) {
        guard let incarnation = incarnations[pipeline.name] else { return }
        let names = classes[incarnation] ?? ["a", "b"], isRefused = world.dice.chance(0.2)
        let more = names + [isRefused ? "none of these" : "class \(names.count)"]
        let declaration = pipeline.with(schema: HashChain.schema(classes: more))
        requests.ask(.pipelineApply, Apply(declaration: declaration)) { [weak self] (result: Result<Applied, AccrueError>) in
            guard let self, incarnations[pipeline.name] == incarnation else { return }
            switch result {
            case .success(let applied):
                // It may have been deleted and made anew on the way, with this schema from the beginning.
                guard applied.incarnation == incarnation else { return }
                if (classes[incarnation]?.count ?? 2) < more.count { classes[incarnation] = more }
                if let position = applied.position { world.witness.changed(incarnation, .settings(schema: declaration.schema), position) }
            case .failure(let error):
                if isRefused, error.code == .invalidInput { return }
                if error.code != .unavailable, error.code != .engine, error.code != .conflict, error.code != .notFound { world.violated("no class appended: \(error)") }
            }
        }
    }

    func setAside(_ pipeline: String) {
        pick(pipeline, .waiting) { [weak self] incarnation, chunk in
            guard let self else { return }
            let request = ChunkPositions(pipeline: pipeline, positions: [chunk.position], reason: "by a person")
            requests.ask(.chunksSetAside, request) { [weak self] (result: Result<PositionsReply, AccrueError>) in
                guard let self, incarnations[pipeline] == incarnation else { return }
                if case .success = result { world.witness.setAside(incarnation, chunk.position) }
            }
        }
    }

    func retry(_ pipeline: String) {
        pick(pipeline, .setAside) { [weak self] incarnation, chunk in
            guard let self, !world.isPoisoned(chunk.chunk.identity) else { return }
            requests.ask(.chunksRetry, ChunkPositions(pipeline: pipeline, positions: [chunk.position])) { [weak self] (result: Result<PositionsReply, AccrueError>) in
                guard let self, incarnations[pipeline] == incarnation, case .success(let reply) = result else { return }
                world.witness.retried(incarnation, .chunk(chunk.chunk), reply.positions)
            }
        }
    }

    private func pick(_ pipeline: String, _ state: ChunkState, _ then: @escaping (String, ChunkRecord) -> Void) {
        guard let incarnation = incarnations[pipeline] else { return }
        requests.ask(.chunksList, ChunksQuery(pipeline: pipeline, state: state)) { [weak self] (result: Result<ChunkListing, AccrueError>) in
            guard let self, incarnations[pipeline] == incarnation, case .success(let listing) = result, !listing.chunks.isEmpty else { return }
            then(incarnation, world.dice.one(of: listing.chunks))
        }
    }

    /// Looks after paused pipelines; once producers are done, flushes until nothing waits.
    func watch(flushing: Bool) {
        requests.ask(.status, PipelineName(pipeline: ""), timeoutMs: 3_000) { [weak self] (result: Result<ClusterStatus, AccrueError>) in
            guard let self else { return }
            if case .success(let status) = result { take(status, flushing: flushing) }
        }
    }

    private func take(_ status: ClusterStatus, flushing: Bool) {
        for pipeline in status.pipelines where pipeline.state == .paused {
            world.note("person resumes \(pipeline.name): \(pipeline.reason ?? "")")
            requests.ask(.pipelineResume, PipelineName(pipeline: pipeline.name)) { (_: Result<PipelineRecord, AccrueError>) in }
        }
        guard flushing, world.producers.allSatisfy(\.isDone) else { return }
        let names = status.pipelines.map(\.name)
        guard world.pipelines.allSatisfy({ names.contains($0.name) && incarnations[$0.name] != nil }) else { return }
        for pipeline in status.pipelines where pipeline.waiting.chunks > 0 { flush(pipeline.name) }
        isContent = status.pipelines.allSatisfy { $0.waiting.chunks == 0 && $0.state == .active }
    }
}
