import AccrueCore
import AccrueStore
import AccrueTesting
import AccrueWire
import Foundation

@testable import AccrueCoordinator

/// Sees what is committed, acknowledged and shown, and says when one of the promises is broken.
final class Witness {
    private struct Acknowledged {
        var incarnation: String
        var chunk: LogEntry.Chunk
        var position: Int
    }

    private unowned let world: World
    /// What the store has committed, by incarnation.
    private var logs: [String: [LogEntry]] = [:]
    private var versions: [String: [VersionRecord]] = [:]
    private var declarations: [String: PipelineDeclaration] = [:]
    private var deleted: Set<String> = []
    private var acknowledged: [Acknowledged] = []
    /// Versions that were shown, by incarnation.
    private var shown: [String: Int] = [:]
    private var asideByPerson: [(incarnation: String, position: Int)] = []
    /// How often the method itself refused a position of an incarnation.
    private var methodErrors: [String: [Int: Int]] = [:]
    private(set) var versionCount = 0
    /// Chunks that were committed with more than one holder.
    private(set) var replicas = 0
    /// Imports and appended classes that were accepted.
    private(set) var changes = 0

    init(_ world: World) { self.world = world }

    // As it happens.

    func committed(_ change: StoreChange, _ outcome: StoreOutcome) {
        func append(_ kind: LogEntry.Kind, at position: Int, _ incarnation: String) {
            if position != logs[incarnation, default: []].count + 1 { world.violated("position \(position) follows \(logs[incarnation]?.count ?? 0)") }
            logs[incarnation, default: []].append(LogEntry(position: position, kind: kind))
        }
        switch (change, outcome) {
        case (.append(let chunks, let incarnation), .appended(let results)):
            for (chunk, result) in zip(chunks, results) {
                guard case .appended(let position) = result else { continue }
                append(.chunk(chunk.chunk), at: position, incarnation)
                if chunk.workers.count > 1 { replicated(chunk, incarnation) }
            }
        case (.appendEntry(let kind, let incarnation), .position(let position)):
            append(kind, at: position, incarnation)
            if case .setAside(let positions, let reason) = kind, reason != "by a person" { confirmed(positions, incarnation) }
        case (.retry(let old, let incarnation), .position(let position)):
            guard let log = logs[incarnation], log.indices.contains(old - 1) else { return world.violated("position \(old) is retried, which the log does not have") }
            // Asked a second time, it is where it was put the first time.
            if position > log.count { append(log[old - 1].kind, at: position, incarnation) } else { retried(incarnation, log[old - 1].kind, [position]) }
        case (.create(let declaration, let incarnation, _, let state, _), .done):
            declarations[incarnation] = declaration
            versions[incarnation] = [VersionRecord(version: 0, state: state, through: 0, absorbedChunks: 0, absorbedRows: 0)]
        case (.publish(let version, let incarnation), .done):
            versions[incarnation, default: []].append(version)
            versionCount += 1
        case (.delete(let incarnation), .done): deleted.insert(incarnation)
        default: break
        }
    }

    func acknowledged(_ chunk: LogEntry.Chunk, _ acknowledgement: Acknowledgement, _ incarnation: String) {
        acknowledged.append(Acknowledged(incarnation: incarnation, chunk: chunk, position: acknowledgement.position))
        guard let log = logs[incarnation], log.indices.contains(acknowledgement.position - 1), case .chunk(let there) = log[acknowledgement.position - 1].kind,
            there.identity == chunk.identity, there.key == chunk.key, acknowledgement.chunk == chunk.identity
        else { return world.violated("chunk \(chunk.identity.short) is acknowledged at \(acknowledgement.position), and the committed log does not have it there") }
    }

    /// Who is named as a holder when a replicated chunk is committed has it on disk.
    private func replicated(_ announced: AnnouncedChunk, _ incarnation: String) {
        let place = SpoolPlace(incarnation: incarnation, identity: announced.chunk.identity)
        for worker in world.workers where announced.workers.contains(worker.name) && worker.spool[place] == nil {
            world.violated("chunk \(place.identity.short) is committed as held by \(worker.name), whose spool does not have it")
        }
        replicas += 1
    }

    func methodFailed(_ task: LeaseTask) {
        for position in Set(task.rows.map(\.position)) { methodErrors[task.identity.incarnation, default: [:]][position, default: 0] += 1 }
    }

    private func confirmed(_ positions: [Int], _ incarnation: String) {
        for position in positions where (methodErrors[incarnation]?[position] ?? 0) < 2 {
            world.violated("position \(position) is set aside although the method did not refuse it twice")
        }
    }

    func setAside(_ incarnation: String, _ position: Int) {
        asideByPerson.append((incarnation, position))
        let isLogged = logs[incarnation]?.contains { if case .setAside(let positions, _) = $0.kind { positions.contains(position) } else { false } } ?? false
        if !isLogged { world.violated("position \(position) was set aside, and the committed log does not say so") }
    }

    func retried(_ incarnation: String, _ chunk: LogEntry.Kind, _ positions: [Int]) {
        for position in positions where logs[incarnation]?[position - 1].kind != chunk {
            world.violated("a retried chunk is said to be at \(position), and the committed log does not have it there")
        }
    }

    func changed(_ incarnation: String, _ kind: LogEntry.Kind, _ position: Int) {
        changes += 1
        if logs[incarnation]?[position - 1].kind != kind { world.violated("a change is said to be at \(position), and the committed log does not have it there") }
    }

    func flushed(_ incarnation: String, _ position: Int) {
        if logs[incarnation]?[position - 1].kind != .cut { world.violated("a flush answered \(position), where the committed log has no cut") }
    }

    /// What the coordinator shows: versions only grow, and each is committed before.
    func look(_ pipelines: [PipelineLearning]) {
        for pipeline in pipelines {
            let count = pipeline.versions.count
            let before = shown[pipeline.incarnation] ?? 0
            guard count != before else { continue }
            shown[pipeline.incarnation] = count
            if count < before { world.violated("version \(before - 1) of \(pipeline.name) was shown and is gone") }
            compareVersions(pipeline.versions, pipeline.incarnation, "shown")
        }
    }

    private func compareVersions(_ found: [VersionRecord], _ incarnation: String, _ how: String) {
        let committed = versions[incarnation] ?? []
        guard found.count <= committed.count else { return world.violated("version \(found.count - 1) is \(how) before it is committed") }
        for (found, committed) in zip(found, committed) where found.state != committed.state || found.through != committed.through || found.version != committed.version {
            world.violated("version \(found.version) is \(how) as \(found.state.short) through \(found.through), committed as \(committed.state.short) through \(committed.through)")
        }
        for (older, newer) in zip(found, found.dropFirst()) where newer.version != older.version + 1 || newer.through <= older.through {
            world.violated("version \(newer.version) through \(newer.through) follows version \(older.version) through \(older.through)")
        }
    }

    /// After a restart, and in the end: what the coordinator holds is what the store holds is what was committed.
    func recovered(_ pipelines: [PipelineLearning], _ store: Store?) {
        guard let store else { return }
        do {
            let alive = declarations.keys.filter { !deleted.contains($0) }.sorted()
            if pipelines.map(\.incarnation) != alive { world.violated("pipelines \(pipelines.map(\.incarnation)) are there, \(alive) were committed") }
            for pipeline in pipelines {
                let incarnation = pipeline.incarnation
                if pipeline.log.entries != logs[incarnation] ?? [] { world.violated("the log of \(pipeline.name) is not what was committed") }
                if try store.entries(after: 0, incarnation: incarnation) != logs[incarnation] ?? [] { world.violated("the stored log of \(pipeline.name) is not what was committed") }
                if pipeline.versions.count != versions[incarnation]?.count { world.violated("\(pipeline.versions.count) versions, \(versions[incarnation]?.count ?? 0) were committed") }
                compareVersions(try store.versions(incarnation: incarnation), incarnation, "stored")
                compareStandings(pipeline, try store.standings(incarnation: incarnation))
            }
            look(pipelines)
        } catch { world.violated("the store cannot be read: \(error)") }
    }

    private func compareStandings(_ pipeline: PipelineLearning, _ stored: [Int: ChunkStanding]) {
        for entry in pipeline.log.entries {
            guard case .chunk = entry.kind else { continue }
            switch (pipeline.log.standings[entry.position], stored[entry.position]) {
            case (.waiting, .waiting): continue
            case (.absorbed(let one), .absorbed(let other)) where one == other: continue
            case (.setAside(let one), .setAside(let other)) where one == other: continue
            case (let one, let other):
                world.violated("position \(entry.position) of \(pipeline.name) is \(one.map { "\($0)" } ?? "nothing") here and \(other.map { "\($0)" } ?? "nothing") in the store")
            }
        }
    }

    // In the end.

    /// Everything that was promised, of a cluster that has come to rest.
    func judge(_ pipelines: [PipelineLearning], _ store: Store?) {
        for incarnation in logs.keys.sorted() {
            for entry in logs[incarnation] ?? [] { world.note("log \(declarations[incarnation]?.name ?? "") \(incarnation): \(entry)") }
            for version in versions[incarnation] ?? [] { world.note("version \(incarnation): \(version.version) through \(version.through)") }
        }
        recovered(pipelines, store)
        for pipeline in pipelines {
            guard let store, let declaration = declarations[pipeline.incarnation] else { continue }
            replay(declaration, logs[pipeline.incarnation] ?? [], versions[pipeline.incarnation] ?? [], store)
        }
        for incarnation in declarations.keys.sorted() { countOnce(incarnation, logs[incarnation] ?? []) }
        for aside in asideByPerson where !deleted.contains(aside.incarnation) {
            guard let pipeline = pipelines.first(where: { $0.incarnation == aside.incarnation }) else { continue }
            if case .setAside = pipeline.log.standings[aside.position] { continue }
            world.violated("position \(aside.position) was set aside and is \(pipeline.log.standings[aside.position].map { "\($0)" } ?? "nothing")")
        }
    }

    /// Oracle 1: the versions are the quiet fold of the same log.
    private func replay(_ declaration: PipelineDeclaration, _ log: [LogEntry], _ versions: [VersionRecord], _ store: Store) {
        let content = world.content
        let run = LocalRun(pipeline: declaration, log: log, files: world.files) { (pipeline) in World.method(pipeline) } rows: { (position) throws(AccrueError) in
            guard case .chunk(let chunk) = log[position - 1].kind, let rows = content[chunk.identity] else {
                throw AccrueError(.corrupt, while: "replaying", "no chunk at \(position)")
            }
            return rows
        }
        do {
            let last = try run.run { (quiet) throws(AccrueError) in
                guard versions.indices.contains(quiet.number) else { return world.violated("\(declaration.name) has no version \(quiet.number), which the log makes") }
                let made = versions[quiet.number]
                if made.through != quiet.through || made.absorbedChunks != quiet.absorbedChunks || made.absorbedRows != quiet.absorbedRows || made.score != quiet.score
                    || made.reports != quiet.reports
                {
                    world.violated("version \(quiet.number) of \(declaration.name) is \(made), and its log says \(quiet)")
                }
                if try store.states.read(made.state) != quiet.state { world.violated("version \(quiet.number) of \(declaration.name) is not the quiet fold of its log") }
            }
            if versions.count != last.number + 1 { world.violated("\(declaration.name) has \(versions.count - 1) versions; the log makes \(last.number)") }
        } catch { world.violated("the log of \(declaration.name) cannot be folded: \(error)") }
    }

    /// What was acknowledged is in the log where it was said to be; no chunk counts twice.
    private func countOnce(_ incarnation: String, _ log: [LogEntry]) {
        var aside: Set<Int> = []
        for entry in log { if case .setAside(let positions, _) = entry.kind { aside.formUnion(positions) } }
        var seen: [String: Int] = [:]
        for entry in log {
            guard case .chunk(let chunk) = entry.kind, !aside.contains(entry.position) else { continue }
            let name = chunk.key.map { "key \($0)" } ?? chunk.identity.hex
            if let before = seen.updateValue(entry.position, forKey: name) { world.violated("\(name) counts twice: at \(before) and \(entry.position)") }
        }
        for acknowledged in acknowledged where acknowledged.incarnation == incarnation {
            guard log.indices.contains(acknowledged.position - 1), case .chunk(let chunk) = log[acknowledged.position - 1].kind,
                chunk.identity == acknowledged.chunk.identity, chunk.key == acknowledged.chunk.key
            else { world.violated("chunk \(acknowledged.chunk.identity.short) was acknowledged at \(acknowledged.position) and is not there"); continue }
        }
    }

    /// Oracle 2: the last version's state, for comparison with a local run.
    func lastState(_ store: Store?) -> Data? {
        guard let incarnation = declarations.keys.sorted().first, let last = versions[incarnation]?.last else { return nil }
        return try? store?.states.read(last.state)
    }
}
