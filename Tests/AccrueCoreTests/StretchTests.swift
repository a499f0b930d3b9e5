import AccrueCore
import Foundation
import Testing

@Suite("Rounds are cut out of the log by data alone")
struct StretchTests {
    static func chunk(_ position: Int, rows: Int) -> LogEntry {
        LogEntry(
            position: position,
            kind: .chunk(LogEntry.Chunk(identity: ContentHash(of: Data("\(position)".utf8)), key: nil, rows: rows, bytes: rows)))
    }

    @Test("a round ends with its last chunk, counted by position")
    func byCount() throws {
        let log = [Self.chunk(1, rows: 2), Self.chunk(2, rows: 3), Self.chunk(3, rows: 4)]
        let first = try #require(Stretch.next(in: log, after: 0, chunksPerRound: 2))
        #expect(first.through == 2 && first.rows == 5)
        #expect(Stretch.next(in: log, after: 2, chunksPerRound: 2) == nil)
    }

    @Test("a cut ends an open round and does nothing without chunks")
    func byCut() throws {
        let log = [LogEntry(position: 1, kind: .cut), Self.chunk(2, rows: 2), LogEntry(position: 3, kind: .cut), Self.chunk(4, rows: 1)]
        let first = try #require(Stretch.next(in: log, after: 0, chunksPerRound: 9))
        #expect(first.through == 3 && first.chunks.map(\.position) == [2])
    }

    @Test("chunks set aside later in the log are left out but still count for the boundary")
    func setAside() throws {
        let log = [
            Self.chunk(1, rows: 2), Self.chunk(2, rows: 3), Self.chunk(3, rows: 3), LogEntry(position: 4, kind: .setAside(positions: [1], reason: "bad")),
        ]
        let first = try #require(Stretch.next(in: log, after: 0, chunksPerRound: 2))
        #expect(first.through == 2 && first.chunks.map(\.position) == [2])
    }

    @Test("shards are contiguous, cover every row once, and differ by at most one row", arguments: 1...9)
    func shards(count: Int) throws {
        let log = [Self.chunk(1, rows: 3), Self.chunk(2, rows: 1), Self.chunk(3, rows: 4)]
        let stretch = try #require(Stretch.next(in: log, after: 0, chunksPerRound: 3))
        let shards = stretch.shards(count)
        #expect(shards.count == min(count, 8))
        let sizes = shards.map { $0.reduce(0) { $0 + $1.rows } }
        #expect(sizes.reduce(0, +) == 8 && (sizes.max() ?? 0) - (sizes.min() ?? 0) <= 1)
        let rows = shards.flatMap { $0 }.flatMap { range in (0..<range.rows).map { "\(range.position).\(range.firstRow + $0)" } }
        #expect(rows == ["1.0", "1.1", "1.2", "2.0", "3.0", "3.1", "3.2", "3.3"])
    }

    @Test("a stretch whose chunks are all set aside has no shards")
    func emptied() throws {
        let log = [Self.chunk(1, rows: 2), LogEntry(position: 2, kind: .setAside(positions: [1], reason: "bad"))]
        let stretch = try #require(Stretch.next(in: log, after: 0, chunksPerRound: 1))
        #expect(stretch.chunks.isEmpty && stretch.shards(4).isEmpty)
    }

    @Test("an import or a change of settings ends the round before it and is a stretch of its own; set aside, it is an empty one")
    func changes() throws {
        let imported = LogEntry.Import(file: ContentHash(of: Data("net".utf8)))
        var log = [Self.chunk(1, rows: 2), LogEntry(position: 2, kind: .import(imported)), LogEntry(position: 3, kind: .settings(schema: Schema([]))), Self.chunk(4, rows: 1)]
        func stretches() -> [Stretch] {
            var result: [Stretch] = []
            while let next = Stretch.next(in: log, after: result.last?.through ?? 0, chunksPerRound: 2) { result.append(next) }
            return result
        }
        #expect(stretches().map(\.through) == [1, 2, 3] && stretches().map(\.positions) == [[1], [2], [3]])
        #expect(stretches().map(\.change) == [nil, .adopt(imported), .adapt(Schema([]))])
        log.append(LogEntry(position: 5, kind: .setAside(positions: [2], reason: "bad")))
        #expect(stretches().map(\.through) == [1, 2, 3] && stretches().map(\.isEmpty) == [false, true, false])
    }
}

@Suite("What is scored")
struct ScorePartsTests {
    @Test("large chunks are scored in equal parts, small ones whole, none in more parts than are allowed", arguments: [
        (1, 1), (2_048, 1), (2_049, 2), (6_000, 3), (10_000_000, Stretch.scorePartsMax),
    ])
    func parts(rows: Int, count: Int) {
        let chunk = LogEntry.Chunk(identity: ContentHash(of: .init("a".utf8)), key: nil, rows: rows, bytes: rows)
        let parts = Stretch(after: 4, through: 5, chunks: [.init(position: 5, chunk: chunk)]).scoreParts
        #expect(parts.count == count && parts.allSatisfy { $0.position == 5 })
        var next = 0
        for part in parts {
            #expect(part.firstRow == next && abs(part.rows - rows / count) <= 1)
            next += part.rows
        }
        #expect(next == rows)
    }
}
