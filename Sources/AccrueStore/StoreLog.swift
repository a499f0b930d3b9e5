public import AccrueCore
import Foundation
import GRDB

extension Store {
    /// Appends chunks in one transaction, each by the rules of identity: the same key and content, or the same content when neither has a key, is a
    /// duplicate; the same key with other content is a conflict. What is returned as appended is on disk.
    ///
    /// - Returns: one result a chunk, in order.
    /// - Throws: `unavailable` when the disk fails; nothing is appended then.
    public func append(_ announced: [AnnouncedChunk], incarnation: String) throws(AccrueError) -> [AppendResult] {
        try translating("appending \(announced.count) chunks to the log") {
            try self.database.write { db in
                var next = try Self.lastPosition(db, incarnation) + 1
                // The indices know what is there: one statement asks and answers.
                let insert = try db.cachedStatement(
                    sql: "INSERT INTO log (incarnation, position, kind, identity, key, payload) VALUES (?, ?, 'chunk', ?, ?, ?) ON CONFLICT DO NOTHING")
                return try announced.map { announced in
                    let chunk = announced.chunk
                    try insert.execute(arguments: [incarnation, next, chunk.identity.hex, chunk.key, Self.payload(announced)])
                    if db.changesCount == 1 {
                        defer { next += 1 }
                        return .appended(position: next)
                    }
                    let earlier = try Self.earlier(db, chunk, incarnation)
                    if case .duplicate = earlier {
                        let more = try db.cachedStatement(sql: "INSERT OR IGNORE INTO holder VALUES (?, ?, ?)")
                        for worker in announced.workers { try more.execute(arguments: [incarnation, chunk.identity.hex, worker]) }
                    }
                    return earlier
                }
            }
        }
    }

    /// The workers last known to hold each chunk that is not absorbed.
    public func holders(incarnation: String) throws(AccrueError) -> [ContentHash: Set<String>] {
        try translating("reading where chunks are") {
            try self.database.read { db in
                var holders: [ContentHash: Set<String>] = [:]
                let appended = """
                    SELECT identity, payload FROM log
                    WHERE incarnation = ? AND kind = 'chunk' AND position > (SELECT coalesce(max(through), 0) FROM version WHERE incarnation = ?)
                    """
                for row in try Row.fetchAll(db, sql: appended, arguments: [incarnation, incarnation]) {
                    let payload: String = row["payload"]
                    let entry = try JSONValue(parsing: Data(payload.utf8))["chunk"]?["_0"]
                    guard let identity = ContentHash(hex: row["identity"]), let workers = entry?["holders"]?.array else { continue }
                    holders[identity, default: []].formUnion(workers.compactMap(\.string))
                }
                for row in try Row.fetchAll(db, sql: "SELECT identity, worker FROM holder WHERE incarnation = ?", arguments: [incarnation]) {
                    guard let identity = ContentHash(hex: row["identity"]) else { continue }
                    holders[identity, default: []].insert(row["worker"])
                }
                return holders
            }
        }
    }

    /// Appends an entry that is no chunk; returns its position. The file of an import must be among `states` already.
    public func append(_ kind: LogEntry.Kind, incarnation: String) throws(AccrueError) -> Int {
        if case .import(let imported) = kind { precondition(states.exists(imported.file), "\(imported.file.short) imported before it is on disk") }
        return try translating("appending to the log") {
            try self.database.write { db in
                let position = try Self.lastPosition(db, incarnation) + 1
                try Self.insert(db, kind, at: position, incarnation, retryOf: nil)
                return position
            }
        }
    }

    /// Appends a chunk that was set aside again, at a new position; one that was retried already is where it was put then.
    /// - Throws: `conflict` when the position holds no chunk that is set aside.
    public func retry(position: Int, incarnation: String) throws(AccrueError) -> Int {
        let operation = "retrying the chunk at position \(position)"
        let entries = try self.entries(after: position - 1, incarnation: incarnation)
        guard let entry = entries.first, entry.position == position, case .chunk = entry.kind,
            case .setAside? = try standings(incarnation: incarnation)[position]
        else { throw AccrueError(.conflict, while: operation, "no chunk is set aside there", hint: "see 'accrue chunks list --state set-aside'") }
        return try translating(operation) {
            try self.database.write { db in
                if let later = try Self.retried(db, position, incarnation) { return later }
                let next = try Self.lastPosition(db, incarnation) + 1
                try Self.insert(db, entry.kind, at: next, incarnation, retryOf: position)
                return next
            }
        }
    }

    /// The log after a position, in order.
    public func entries(after position: Int, incarnation: String) throws(AccrueError) -> [LogEntry] {
        try translating("reading the log") {
            try self.database.read { db in
                let sql = "SELECT position, payload FROM log WHERE incarnation = ? AND position > ? ORDER BY position"
                return try Row.fetchAll(db, sql: sql, arguments: [incarnation, position]).map { row in
                    LogEntry(position: row["position"], kind: try decoding(row["payload"]))
                }
            }
        }
    }

    /// Where each chunk of the log stands, by position.
    public func standings(incarnation: String) throws(AccrueError) -> [Int: ChunkStanding] {
        let entries = try self.entries(after: 0, incarnation: incarnation)
        let versions = try self.versions(incarnation: incarnation)
        var standings: [Int: ChunkStanding] = [:]
        for entry in entries {
            guard case .chunk = entry.kind else { continue }
            let absorbing = versions.first { $0.through >= entry.position }
            standings[entry.position] = absorbing.map { .absorbed(version: $0.version) } ?? .waiting
        }
        for entry in entries {
            guard case .setAside(let positions, let reason) = entry.kind else { continue }
            for position in positions where standings[position] != nil { standings[position] = .setAside(reason: reason) }
        }
        return standings
    }

    private static func lastPosition(_ db: Database, _ incarnation: String) throws -> Int {
        try Int.fetchOne(db.cachedStatement(sql: "SELECT max(position) FROM log WHERE incarnation = ?"), arguments: [incarnation]) ?? 0
    }

    /// An entry of a chunk as it is kept, with the workers that hold it: they need no table, and no page of it, as long as no others do.
    private static func payload(_ announced: AnnouncedChunk) -> String {
        var text = JSONText()
        announced.chunk.writeEntry(to: &text, holders: announced.workers)
        return String(decoding: text.bytes, as: UTF8.self)
    }

    /// Where the log has a chunk that it does not take.
    private static func earlier(_ db: Database, _ chunk: LogEntry.Chunk, _ incarnation: String) throws -> AppendResult {
        let row: Row? =
            if let key = chunk.key {
                try Row.fetchOne(
                    db.cachedStatement(sql: "SELECT position, identity FROM log WHERE incarnation = ? AND key = ? AND retried IS NULL"),
                    arguments: [incarnation, key])
            } else {
                try Row.fetchOne(
                    db.cachedStatement(
                        sql: "SELECT position, identity FROM log WHERE incarnation = ? AND identity = ? AND kind = 'chunk' AND key IS NULL AND retried IS NULL"),
                    arguments: [incarnation, chunk.identity.hex])
            }
        guard let row else {
            throw AccrueError(
                .corrupt, while: "appending chunk \(chunk.identity.short)", "the log neither takes nor has it", hint: "restore the home directory from a backup")
        }
        guard row["identity"] == chunk.identity.hex else { return .conflict(position: row["position"]) }
        // A chunk that was set aside and retried stands where it was put last.
        var position: Int = row["position"]
        while let later = try Self.retried(db, position, incarnation) { position = later }
        return .duplicate(position: position)
    }

    /// Where the chunk at a position was put when it was retried.
    private static func retried(_ db: Database, _ position: Int, _ incarnation: String) throws -> Int? {
        try Int.fetchOne(db.cachedStatement(sql: "SELECT position FROM log WHERE incarnation = ? AND retried = ?"), arguments: [incarnation, position])
    }

    private static func insert(_ db: Database, _ kind: LogEntry.Kind, at position: Int, _ incarnation: String, retryOf: Int?) throws {
        let payload = try JSONValue(encoding: kind).canonical
        let (name, identity, key): (String, String?, String?) =
            switch kind {
            case .chunk(let chunk): ("chunk", chunk.identity.hex, chunk.key)
            case .cut: ("cut", nil, nil)
            case .setAside: ("setAside", nil, nil)
            case .import(let imported): ("import", imported.file.hex, nil)
            case .settings: ("settings", nil, nil)
            }
        try db.cachedStatement(sql: "INSERT INTO log (incarnation, position, kind, identity, key, retried, payload) VALUES (?, ?, ?, ?, ?, ?, ?)").execute(
            arguments: [incarnation, position, name, identity, key, retryOf, payload])
    }
}
