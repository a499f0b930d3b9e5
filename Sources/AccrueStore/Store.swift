public import AccrueCore
import Foundation
import GRDB

/// Truth on disk: pipelines, their logs and their versions in SQLite, states as files. One call = one transaction = one change of truth.
///
/// Calls block on the disk; they belong on a thread of their own, never on a socket's or a cooperative one.
public final class Store: Sendable {
    let database: DatabaseQueue
    public let states: StateFiles
    private let lock: HomeLock

    /// Opens a home directory, making it if needed.
    ///
    /// - Throws: `conflict` when another process has it open; `corrupt` when the file of a version or an import is missing; `unavailable` when SQLite or the
    ///   disk fails.
    public init(home: String) throws(AccrueError) {
        lock = try HomeLock(home: home)
        states = try StateFiles(directory: "\(home)/states")
        database = try translating("opening \(home)/accrue.sqlite") {
            var configuration = Configuration()
            configuration.prepareDatabase { db in
                try db.execute(sql: "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON")
            }
            let queue = try DatabaseQueue(path: "\(home)/accrue.sqlite", configuration: configuration)
            try Migrations.all.migrate(queue)
            return queue
        }
        let needed = try translating("listing states") {
            try self.database.read { db in
                try String.fetchAll(
                    db,
                    sql: """
                        SELECT state FROM version JOIN pipeline USING (incarnation) WHERE deleted = 0
                        UNION SELECT identity FROM log JOIN pipeline USING (incarnation) WHERE deleted = 0 AND kind = 'import'
                        """)
            }
        }
        let hashes = Set(needed.compactMap { ContentHash(hex: $0) })
        for hash in hashes.sorted() where !states.exists(hash) {
            throw AccrueError(
                .corrupt, while: "opening \(home)", "the file \(hash.short) of a committed version or import is missing from \(home)/states",
                hint: "restore the home directory from a backup")
        }
        _ = try states.deleteAll(except: hashes)
    }

    /// Adds a pipeline with its version 0.
    /// - Throws: `conflict` when the name is taken; `unavailable` when the disk fails.
    public func createPipeline(
        _ declaration: PipelineDeclaration, incarnation: String, phases: MethodPhases, initialState: ContentHash, bytes: Int = 0, createdAtMs: Int = 0
    ) throws(AccrueError) {
        let taken = try pipelines().contains { $0.declaration.name == declaration.name }
        guard !taken else {
            throw AccrueError(
                .conflict, while: "creating pipeline '\(declaration.name)'", "a pipeline of this name exists", hint: "delete it first, or choose another name")
        }
        try translating("creating pipeline '\(declaration.name)'") {
            let declared = try JSONValue(encoding: declaration).canonical
            let phases = try JSONValue(encoding: phases).canonical
            try self.database.write { db in
                try db.execute(
                    sql: "INSERT INTO pipeline (incarnation, name, declaration, phases) VALUES (?, ?, ?, ?)",
                    arguments: [incarnation, declaration.name, declared, phases])
                try db.execute(
                    sql: "INSERT INTO version VALUES (?, 0, ?, 0, 0, 0, NULL, '[]', ?, ?)", arguments: [incarnation, initialState.hex, bytes, createdAtMs])
            }
        }
    }

    /// The pipelines that are not deleted, by name.
    public func pipelines() throws(AccrueError) -> [StoredPipeline] {
        try translating("listing pipelines") {
            try self.database.read { db in
                try Row.fetchAll(db, sql: "SELECT * FROM pipeline WHERE deleted = 0 ORDER BY name").map { row in
                    StoredPipeline(
                        incarnation: row["incarnation"], declaration: try decoding(row["declaration"]), phases: try decoding(row["phases"]),
                        paused: row["paused"])
                }
            }
        }
    }

    /// Marks a pipeline deleted; its name is free again, its log stays.
    /// - Throws: `notFound`.
    public func deletePipeline(incarnation: String) throws(AccrueError) {
        try change("deleting a pipeline", sql: "UPDATE pipeline SET deleted = 1 WHERE incarnation = ? AND deleted = 0", [incarnation])
    }

    /// Pauses learning with a reason, or resumes it (nil).
    /// - Throws: `notFound`.
    public func setPaused(_ reason: String?, incarnation: String) throws(AccrueError) {
        try change("pausing a pipeline", sql: "UPDATE pipeline SET paused = ? WHERE incarnation = ? AND deleted = 0", [reason, incarnation])
    }

    /// Publishes a version: it exists and its stretch is absorbed, in one transaction. Its state must be among `states` already.
    /// - Throws: `conflict` when it does not follow the newest version; `unavailable` when the disk fails.
    public func publish(_ version: VersionRecord, incarnation: String) throws(AccrueError) {
        precondition(states.exists(version.state), "version \(version.version) published before its state is on disk")
        try translating("publishing version \(version.version)") {
            let score = try version.score.map { try JSONValue(encoding: $0).canonical }
            let reports = try JSONValue(encoding: version.reports).canonical
            try self.database.write { db in
                try db.execute(
                    sql: "INSERT INTO version VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    arguments: [
                        incarnation, version.version, version.state.hex, version.through, version.absorbedChunks, version.absorbedRows, score, reports,
                        version.bytes, version.createdAtMs,
                    ])
                let later = "SELECT identity FROM log WHERE incarnation = ? AND position > ? AND kind = 'chunk'"
                try db.execute(
                    sql: "DELETE FROM holder WHERE incarnation = ? AND identity NOT IN (\(later))", arguments: [incarnation, incarnation, version.through])
            }
        }
    }

    /// All versions of a pipeline, oldest first.
    public func versions(incarnation: String) throws(AccrueError) -> [VersionRecord] {
        try translating("listing versions") {
            try self.database.read { db in
                try Row.fetchAll(db, sql: "SELECT * FROM version WHERE incarnation = ? ORDER BY version", arguments: [incarnation]).map { row in
                    guard let state = ContentHash(hex: row["state"]) else {
                        throw AccrueError(.corrupt, while: "reading version \(row["version"] as Int)", "its state has no hash")
                    }
                    let score: String? = row["score"]
                    return VersionRecord(
                        version: row["version"], state: state, bytes: row["bytes"], through: row["through"], absorbedChunks: row["absorbedChunks"],
                        absorbedRows: row["absorbedRows"], score: try score.map { try decoding($0) }, reports: try decoding(row["reports"]),
                        createdAtMs: row["createdAtMs"])
                }
            }
        }
    }

    private func change(_ operation: String, sql: String, _ arguments: StatementArguments) throws(AccrueError) {
        let changed = try translating(operation) {
            try self.database.write { db in
                try db.execute(sql: sql, arguments: arguments)
                return db.changesCount
            }
        }
        guard changed > 0 else { throw AccrueError(.notFound, while: operation, "there is no such pipeline", hint: "see 'accrue pipeline list'") }
    }
}
