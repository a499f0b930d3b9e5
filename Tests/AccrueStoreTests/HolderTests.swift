import AccrueCore
import Foundation
import GRDB
import Testing

@testable import AccrueStore

@Suite("The store remembers who holds a chunk")
struct HolderTests {
    private static func announced(_ content: String, _ workers: [String]) -> AnnouncedChunk { AnnouncedChunk(StoreTests.chunk(content), workers: workers) }

    @Test("who brought it to the log and who told of it later, also after reopening, until a version absorbs it")
    func known() throws {
        let home = StoreTests.Home()
        let a = StoreTests.chunk("a").identity, b = StoreTests.chunk("b").identity
        do {
            let store = try StoreTests.store(home)
            _ = try store.append([Self.announced("a", ["v", "w"]), Self.announced("b", ["w"])], incarnation: "i")
            #expect(try store.append([Self.announced("a", ["x"])], incarnation: "i") == [.duplicate(position: 1)])
            #expect(try store.append([AnnouncedChunk(StoreTests.chunk("b", key: "k"), workers: ["x"])], incarnation: "i") == [.appended(position: 3)])
        }
        let store = try Store(home: home.path)
        #expect(try store.holders(incarnation: "i") == [a: ["v", "w", "x"], b: ["w", "x"]])
        let state = try store.states.put(Data("one".utf8))
        try store.publish(VersionRecord(version: 1, state: state, through: 2, absorbedChunks: 2, absorbedRows: 6), incarnation: "i")
        #expect(try store.holders(incarnation: "i") == [b: ["x"]])
    }

    @Test("a home of an earlier release is opened as it is, and goes on")
    func earlierRelease() throws {
        let home = StoreTests.Home()
        let chunk = StoreTests.chunk("a")
        do {
            try FileManager.default.createDirectory(atPath: home.path, withIntermediateDirectories: true)
            let state = try StateFiles(directory: "\(home.path)/states").put(Data("zero".utf8))
            let queue = try DatabaseQueue(path: "\(home.path)/accrue.sqlite")
            try Migrations.all.migrate(queue, upTo: "2 imports and settings in the log")
            try queue.write { db in
                let declaration = try JSONValue(encoding: StoreTests.declaration()).canonical
                let phases = try JSONValue(encoding: MethodPhases(scores: true, statistics: false)).canonical
                try db.execute(
                    sql: "INSERT INTO pipeline (incarnation, name, declaration, phases) VALUES ('i', 'digits', ?, ?)", arguments: [declaration, phases])
                try db.execute(sql: "INSERT INTO version VALUES ('i', 0, ?, 0, 0, 0, NULL, '[]', 4, 0)", arguments: [state.hex])
                try db.execute(
                    sql: "INSERT INTO log (incarnation, position, kind, identity, payload) VALUES ('i', 1, 'chunk', ?, ?)",
                    arguments: [chunk.identity.hex, try JSONValue(encoding: LogEntry.Kind.chunk(chunk)).canonical])
                try db.execute(sql: "INSERT INTO log (incarnation, position, kind, payload) VALUES ('i', 2, 'cut', '{\"cut\":{}}')")
                try db.execute(sql: "INSERT INTO holder VALUES ('i', ?, 'w')", arguments: [chunk.identity.hex])
            }
        }
        let store = try Store(home: home.path)
        #expect(try store.entries(after: 0, incarnation: "i").map(\.kind) == [.chunk(chunk), .cut])
        #expect(try store.holders(incarnation: "i") == [chunk.identity: ["w"]])
        let more = [Self.announced("a", ["v"]), Self.announced("b", ["v"])]
        #expect(try store.append(more, incarnation: "i") == [.duplicate(position: 1), .appended(position: 3)])
        #expect(throws: AccrueError.self) {
            try translating("writing an entry of no kind") {
                try store.database.write { try $0.execute(sql: "INSERT INTO log (incarnation, position, kind, payload) VALUES ('i', 4, 'other', '{}')") }
            }
        }
    }
}
