/// One entry of a pipeline's log: the only input to learning. Positions count from 1 and never change.
public struct LogEntry: Codable, Equatable, Sendable {
    public enum Kind: Codable, Equatable, Sendable {
        case chunk(Chunk)
        /// Ends the round that is open.
        case cut
        /// These chunks are not learned.
        case setAside(positions: [Int], reason: String)
        /// A network or a posterior from outside: ends the round that is open, and is a version of its own.
        case `import`(Import)
        /// The schema from here on, the one before with classes appended: ends the round that is open, and is a version of its own.
        case settings(schema: Schema)
    }

    /// A chunk as the log knows it: never its payload.
    public struct Chunk: Codable, Hashable, Sendable {
        /// SHA-256 of the content.
        public var identity: ContentHash
        /// The producer's key, if it gave one.
        public var key: String?
        public var rows: Int
        public var bytes: Int
        public init(identity: ContentHash, key: String?, rows: Int, bytes: Int) {
            self.identity = identity
            self.key = key
            self.rows = rows
            self.bytes = bytes
        }
    }

    /// A file that a version is made of: safetensors, kept beside the states under its hash.
    public struct Import: Codable, Hashable, Sendable {
        public var file: ContentHash
        /// Tells two imports of one file apart that are both meant.
        public var key: String?
        public init(file: ContentHash, key: String? = nil) {
            self.file = file
            self.key = key
        }
    }

    public var position: Int
    public var kind: Kind
    public init(position: Int, kind: Kind) {
        self.position = position
        self.kind = kind
    }
}

/// The stretch of the log that one version absorbs, positions `(after, through]`: the chunks of a round, or one entry that changes the posterior by itself.
public struct Stretch: Codable, Equatable, Sendable {
    /// How a version follows from the one before without rows.
    public enum Change: Codable, Equatable, Sendable {
        case adopt(LogEntry.Import)
        case adapt(Schema)

        /// The entry that says so.
        public var kind: LogEntry.Kind {
            switch self {
            case .adopt(let imported): .import(imported)
            case .adapt(let schema): .settings(schema: schema)
            }
        }
    }

    public var after: Int
    public var through: Int
    /// The chunks of the stretch that are not set aside, in log order.
    public var chunks: [PositionedChunk]
    /// What the entry at `through` does, in a stretch of that entry alone.
    public var change: Change?
    public var rows: Int { chunks.reduce(0) { $0 + $1.chunk.rows } }
    /// Whether it makes no version: all that it holds is set aside.
    public var isEmpty: Bool { chunks.isEmpty && change == nil }
    /// The positions of what it absorbs.
    public var positions: [Int] { change == nil ? chunks.map(\.position) : [through] }

    public struct PositionedChunk: Codable, Hashable, Sendable {
        public var position: Int
        public var chunk: LogEntry.Chunk
        public init(position: Int, chunk: LogEntry.Chunk) {
            self.position = position
            self.chunk = chunk
        }
    }

    public init(after: Int, through: Int, chunks: [PositionedChunk] = [], change: Change? = nil) {
        self.after = after
        self.through = through
        self.chunks = chunks
        self.change = change
    }

    /// The first complete stretch after a position: it ends with the C-th chunk (counted by position, set aside or not), at the first cut
    /// that follows at least one chunk, or before an import or a change of settings, which is a stretch of its own. What a `setAside` entry names,
    /// anywhere later in the log, is left out. Nil while the round is open.
    ///
    /// - Parameters:
    ///   - entries: the log after `position`, in order; entries at or before it are skipped.
    ///   - setAside: positions that the `setAside` entries among them name; nil: they are looked for, in all of the log.
    public static func next(in entries: some Collection<LogEntry>, after position: Int, chunksPerRound: Int, setAside named: Set<Int>? = nil) -> Stretch? {
        var chunks: [PositionedChunk] = []
        var through: Int?
        var change: Change?
        for entry in entries where entry.position > position {
            switch entry.kind {
            case .chunk(let chunk):
                chunks.append(PositionedChunk(position: entry.position, chunk: chunk))
                if chunks.count >= chunksPerRound { through = entry.position }
            case .cut:
                if !chunks.isEmpty { through = entry.position }
            case .import(let imported):
                if chunks.isEmpty { change = .adopt(imported) }
                through = chunks.isEmpty ? entry.position : entry.position - 1
            case .settings(let schema):
                if chunks.isEmpty { change = .adapt(schema) }
                through = chunks.isEmpty ? entry.position : entry.position - 1
            case .setAside: break
            }
            if through != nil { break }
        }
        guard let through else { return nil }
        let setAside = named ?? entries.reduce(into: []) { set, entry in
            if entry.position > position, case .setAside(let positions, _) = entry.kind { set.formUnion(positions) }
        }
        return Stretch(
            after: position, through: through, chunks: chunks.filter { !setAside.contains($0.position) }, change: setAside.contains(through) ? nil : change)
    }

    /// The stretches of rows that are scored on their own, so that several workers can share a large chunk: each chunk in equal parts of at most
    /// `scorePartRows` rows, but never more than `scorePartsMax` of them.
    public var scoreParts: [RowRange] {
        chunks.flatMap { chunk in
            let rows = chunk.chunk.rows
            let parts = max(1, min(Self.scorePartsMax, (rows + Self.scorePartRows - 1) / Self.scorePartRows))
            return (0..<parts).map { part in
                let first = rows * part / parts
                return RowRange(position: chunk.position, identity: chunk.chunk.identity, firstRow: first, rows: rows * (part + 1) / parts - first)
            }
        }
    }
    /// Part of what a version is: another number gives other draws.
    public static let scorePartRows = 2_048
    public static let scorePartsMax = 64

    /// The round's rows, in log order, cut into `min(count, rows)` contiguous stretches whose sizes differ by at most one row (the longer first).
    public func shards(_ count: Int) -> [[RowRange]] {
        let total = rows
        let parts = min(count, total)
        guard parts > 0 else { return [] }
        var result: [[RowRange]] = []
        var index = 0, offset = 0
        for part in 0..<parts {
            var wanted = total / parts + (part < total % parts ? 1 : 0)
            var ranges: [RowRange] = []
            while wanted > 0 {
                let chunk = chunks[index]
                let taken = min(wanted, chunk.chunk.rows - offset)
                if taken > 0 {
                    ranges.append(RowRange(position: chunk.position, identity: chunk.chunk.identity, firstRow: offset, rows: taken))
                }
                wanted -= taken
                offset += taken
                if offset == chunk.chunk.rows { index += 1; offset = 0 }
            }
            result.append(ranges)
        }
        return result
    }
}

/// Some rows of one chunk.
public struct RowRange: Codable, Hashable, Sendable {
    public var position: Int
    public var identity: ContentHash
    public var firstRow: Int
    public var rows: Int
    public init(position: Int, identity: ContentHash, firstRow: Int, rows: Int) {
        self.position = position
        self.identity = identity
        self.firstRow = firstRow
        self.rows = rows
    }
}
