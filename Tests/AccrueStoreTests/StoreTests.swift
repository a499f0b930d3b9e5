import AccrueCore
import AccrueStore
import Foundation
import GRDB
import Testing

@Suite("The store keeps the truth")
struct StoreTests {
    /// A home directory that goes with the test.
    final class Home {
        let path = FileManager.default.temporaryDirectory.appendingPathComponent("accrue-\(UUID().uuidString)").path
        deinit { try? FileManager.default.removeItem(atPath: path) }
    }

    static func declaration(_ name: String = "digits") -> PipelineDeclaration {
        PipelineDeclaration(
            name: name, method: "Toy", seed: 1, schema: Schema([TensorSchema("inputs", role: .input, dtype: .u8, shape: [2])]), settings: ["rate": 0.1],
            round: .init(chunks: 2, linger: 1.5))
    }

    static func chunk(_ content: String, key: String? = nil) -> LogEntry.Chunk {
        LogEntry.Chunk(identity: ContentHash(of: Data(content.utf8)), key: key, rows: 3, bytes: 6)
    }

    static func announced(_ content: String, key: String? = nil) -> AnnouncedChunk { AnnouncedChunk(chunk(content, key: key), workers: ["w"]) }

    /// A store with one pipeline "i" at version 0.
    static func store(_ home: Home) throws -> Store {
        let store = try Store(home: home.path)
        let state = try store.states.put(Data("zero".utf8))
        try store.createPipeline(declaration(), incarnation: "i", phases: MethodPhases(scores: true, statistics: false), initialState: state)
        return store
    }

    @Test("everything committed is there after reopening")
    func reopening() throws {
        let home = Home()
        var score = Score()
        score.add(probabilities: [1 / 3, 2 / 3], target: 1)
        do {
            let store = try Self.store(home)
            _ = try store.append([Self.announced("a"), Self.announced("b", key: "k")], incarnation: "i")
            let state = try store.states.put(Data("one".utf8))
            try store.publish(
                VersionRecord(
                    version: 1, state: state, through: 2, absorbedChunks: 2, absorbedRows: 6, score: score,
                    reports: [FitReport(steps: 3, figures: ["loss": 0.1])]), incarnation: "i")
            try store.setPaused("three workers died", incarnation: "i")
        }
        let store = try Store(home: home.path)
        let pipeline = try #require(try store.pipelines().first)
        #expect(pipeline.declaration == Self.declaration() && pipeline.paused == "three workers died" && pipeline.phases.scores)
        let entries = try store.entries(after: 0, incarnation: "i")
        #expect(entries.map(\.kind) == [.chunk(Self.chunk("a")), .chunk(Self.chunk("b", key: "k"))])
        let versions = try store.versions(incarnation: "i")
        #expect(versions.count == 2 && versions[1].score == score && versions[1].reports.first?.figures == ["loss": 0.1])
        #expect(try store.states.read(versions[1].state) == Data("one".utf8))
    }

    @Test("the same content without a key is one chunk, however often it is announced")
    func contentDuplicates() throws {
        let home = Home()
        let store = try Self.store(home)
        #expect(try store.append([Self.announced("a"), Self.announced("a"), Self.announced("b")], incarnation: "i") == [.appended(position: 1), .duplicate(position: 1), .appended(position: 2)])
        #expect(try store.append([Self.announced("b")], incarnation: "i") == [.duplicate(position: 2)])
    }

    @Test("a key names one content: again it is a duplicate, with other content a conflict; two keys make two chunks")
    func keys() throws {
        let home = Home()
        let store = try Self.store(home)
        let results = try store.append(
            [Self.announced("a", key: "k"), Self.announced("a", key: "k"), Self.announced("b", key: "k"), Self.announced("a", key: "l"), Self.announced("a")], incarnation: "i")
        #expect(results == [.appended(position: 1), .duplicate(position: 1), .conflict(position: 1), .appended(position: 2), .appended(position: 3)])
    }

    @Test("a chunk is exactly one of waiting, absorbed and set aside")
    func standings() throws {
        let home = Home()
        let store = try Self.store(home)
        _ = try store.append([Self.announced("a"), Self.announced("b"), Self.announced("c")], incarnation: "i")
        _ = try store.append(.setAside(positions: [2], reason: "NaN loss"), incarnation: "i")
        try store.publish(
            VersionRecord(version: 1, state: try store.states.put(Data("one".utf8)), through: 2, absorbedChunks: 1, absorbedRows: 3), incarnation: "i")
        #expect(try store.standings(incarnation: "i") == [1: .absorbed(version: 1), 2: .setAside(reason: "NaN loss"), 3: .waiting])
    }

    @Test("a chunk that was set aside is retried once, at a new position, and its content is a duplicate of the new one")
    func retry() throws {
        let home = Home()
        let store = try Self.store(home)
        _ = try store.append([Self.announced("a")], incarnation: "i")
        #expect { try store.retry(position: 1, incarnation: "i") } throws: { ($0 as? AccrueError)?.code == .conflict }
        _ = try store.append(.setAside(positions: [1], reason: "diverged"), incarnation: "i")
        #expect(try store.retry(position: 1, incarnation: "i") == 3)
        #expect(try store.retry(position: 1, incarnation: "i") == 3)
        #expect(try store.append([Self.announced("a")], incarnation: "i") == [.duplicate(position: 3)])
        #expect(try store.standings(incarnation: "i")[3] == .waiting)
    }

    @Test("a version that does not follow the newest is refused, and nothing changes")
    func versionsFollow() throws {
        let home = Home()
        let store = try Self.store(home)
        let state = try store.states.put(Data("x".utf8))
        for (version, through) in [(0, 5), (2, 5), (1, 0)] {
            #expect { try store.publish(VersionRecord(version: version, state: state, through: through, absorbedChunks: 0, absorbedRows: 0), incarnation: "i") } throws: {
                ($0 as? AccrueError)?.code == .conflict
            }
        }
        #expect(try store.versions(incarnation: "i").count == 1)
    }

    @Test("the schema itself keeps the log from being changed, shortened or torn")
    func logIsAppendOnly() throws {
        let home = Home()
        let store = try Self.store(home)
        _ = try store.append([Self.announced("a")], incarnation: "i")
        let raw = try DatabaseQueue(path: home.path + "/accrue.sqlite")
        for sql in [
            "DELETE FROM log", "UPDATE log SET payload = '{}'", "UPDATE version SET state = 'x'",
            "INSERT INTO log (incarnation, position, kind, payload) VALUES ('i', 9, 'cut', '{}')",
        ] {
            #expect(throws: DatabaseError.self) { try raw.write { try $0.execute(sql: sql) } }
        }
    }

    @Test("a second process is refused the home, naming the first")
    func locking() throws {
        let home = Home()
        let store = try Self.store(home)
        #expect { try Store(home: home.path) } throws: {
            let error = $0 as? AccrueError
            return error?.code == .conflict && error?.problem.contains("\(getpid())") == true
        }
        withExtendedLifetime(store) {}
    }

    @Test("a deleted pipeline frees its name and keeps its log")
    func deleting() throws {
        let home = Home()
        let store = try Self.store(home)
        _ = try store.append([Self.announced("a")], incarnation: "i")
        #expect(throws: AccrueError.self) { try store.createPipeline(Self.declaration(), incarnation: "j", phases: .init(scores: false, statistics: false), initialState: ContentHash(of: Data("zero".utf8))) }
        try store.deletePipeline(incarnation: "i")
        try store.createPipeline(Self.declaration(), incarnation: "j", phases: .init(scores: false, statistics: false), initialState: ContentHash(of: Data("zero".utf8)))
        #expect(try store.pipelines().map(\.incarnation) == ["j"])
        #expect(try store.entries(after: 0, incarnation: "i").count == 1)
        #expect { try store.deletePipeline(incarnation: "i") } throws: { ($0 as? AccrueError)?.code == .notFound }
    }

    @Test("the file of an import is there after reopening, and its entry is in the log; files of deleted pipelines go")
    func imports() throws {
        let home = Home()
        let file = ContentHash(of: Data("net".utf8)), schema = Schema([TensorSchema("inputs", role: .input, dtype: .u8, shape: [2])])
        do {
            let store = try Self.store(home)
            _ = try store.states.put(Data("net".utf8))
            #expect(try store.append(.import(.init(file: file, key: "k")), incarnation: "i") == 1)
            #expect(try store.append(.settings(schema: schema), incarnation: "i") == 2)
            // The key of an import and its content are none of a chunk's.
            #expect(try store.append([Self.announced("net", key: "k"), Self.announced("net")], incarnation: "i") == [.appended(position: 3), .appended(position: 4)])
        }
        do {
            let store = try Store(home: home.path)
            #expect(try store.states.read(file) == Data("net".utf8))
            #expect(try store.entries(after: 0, incarnation: "i").prefix(2).map(\.kind) == [.import(.init(file: file, key: "k")), .settings(schema: schema)])
            try store.deletePipeline(incarnation: "i")
        }
        #expect(try !Store(home: home.path).states.exists(file))
    }

    @Test("a home without the file of an import is corrupt")
    func importMissing() throws {
        let home = Home()
        var file: ContentHash?
        do {
            let store = try Self.store(home)
            let hash = try store.states.put(Data("net".utf8))
            file = hash
            _ = try store.append(.import(.init(file: hash)), incarnation: "i")
        }
        try FileManager.default.removeItem(atPath: "\(home.path)/states/\(try #require(file).hex).safetensors")
        #expect { try Store(home: home.path) } throws: { ($0 as? AccrueError)?.code == .corrupt }
    }
}
