public import Foundation

/// A log folded into versions in one process, without sockets or store.
///
/// It is what `accrue run` does, and the quiet twin that a daemon's versions are compared with: the same log gives the same bytes.
public struct LocalRun: Sendable {
    /// One version as it appears.
    public struct Version: Sendable {
        public var number: Int
        public var state: Data
        /// The last log position that it absorbs.
        public var through: Int
        public var absorbedChunks: Int
        public var absorbedRows: Int
        /// The absorbed rows scored with the version before.
        public var score: Score?
        public var reports: [FitReport]
        public var remarks: [Remark]
        /// What its rows look like, and those of the rounds after it.
        public var schema: Schema
    }

    private let pipeline: PipelineDeclaration
    private let make: @Sendable (PipelineDeclaration) throws(AccrueError) -> any OpaqueMethod
    private let rows: @Sendable (Int) throws(AccrueError) -> Rows
    private let files: [ContentHash: Data]
    public let log: [LogEntry]

    /// - Parameters:
    ///   - pipeline: as it was first declared.
    ///   - files: what the log imports.
    ///   - make: the method of the pipeline with each schema that it has.
    ///   - rows: of the chunk at a position.
    public init(
        pipeline: PipelineDeclaration, log: [LogEntry], files: [ContentHash: Data] = [:],
        make: @escaping @Sendable (PipelineDeclaration) throws(AccrueError) -> any OpaqueMethod, rows: @escaping @Sendable (Int) throws(AccrueError) -> Rows
    ) {
        self.pipeline = pipeline
        self.make = make
        self.rows = rows
        self.files = files
        self.log = log
    }

    /// The log that pushing rows chunk after chunk, and a final flush, makes.
    /// - Parameters:
    ///   - chunks: ranges of `rows`, one a chunk, in the order in which they are pushed.
    ///   - start: a network or posterior that is imported before the first chunk; nil: none.
    public init(pipeline: PipelineDeclaration, method: any OpaqueMethod, rows: Rows, chunks: [Range<Int>], start: Data? = nil) {
        var log: [LogEntry] = [], files: [ContentHash: Data] = [:]
        if let start {
            let file = ContentHash(of: start)
            files[file] = start
            log.append(LogEntry(position: 1, kind: .import(.init(file: file))))
        }
        let before = log.count
        for (index, range) in chunks.enumerated() {
            let part = rows.rows(range)
            let bytes = part.tensors.values.reduce(0) { $0 + $1.data.count }
            log.append(
                LogEntry(position: before + index + 1, kind: .chunk(.init(identity: part.identity, key: nil, rows: part.count, bytes: bytes))))
        }
        log.append(LogEntry(position: log.count + 1, kind: .cut))
        self.init(pipeline: pipeline, log: log, files: files, make: { (_) in method }) { (position) throws(AccrueError) in
            rows.rows(chunks[position - before - 1])
        }
    }

    /// Folds the whole log.
    ///
    /// - Parameter report: called with each version as soon as it exists, version 0 included.
    /// - Throws: what the method throws; `notFound` for a file that is imported and not there.
    public func run(report: (Version) throws(AccrueError) -> Void) throws(AccrueError) -> Version {
        var fold = RoundFold(pipeline: pipeline, method: try make(pipeline))
        var version = Version(
            number: 0, state: try fold.initialState(), through: 0, absorbedChunks: 0, absorbedRows: 0, score: nil, reports: [], remarks: [],
            schema: pipeline.schema)
        try report(version)
        var position = 0, isFirst = true
        while let stretch = Stretch.next(in: log, after: position, chunksPerRound: pipeline.round.chunks) {
            position = stretch.through
            guard !stretch.isEmpty else { continue }
            var next = version
            next.number += 1
            next.through = stretch.through
            (next.score, next.reports, next.remarks) = (nil, [], [])
            switch stretch.change {
            case .adopt(let imported):
                guard let file = files[imported.file] else {
                    throw AccrueError(.notFound, while: "importing at position \(position)", "there is no file \(imported.file.short)", hint: "give every file that the log imports")
                }
                next.state = try fold.adopt(file, into: version.state, version: next.number)
                isFirst = false
            case .adapt(let schema):
                let declared = pipeline.with(schema: schema)
                fold = RoundFold(pipeline: declared, method: try make(declared))
                next.state = try fold.adapt(version.state, from: version.schema, version: next.number)
                next.schema = schema
            case nil:
                let outcome = try fold.next(
                    version.state, version: next.number, isFirst: isFirst, stretch: stretch, rowsBefore: version.absorbedRows, rows: rows)
                next.state = outcome.state
                next.absorbedChunks += stretch.chunks.count
                next.absorbedRows += stretch.rows
                (next.score, next.reports, next.remarks) = (outcome.score, outcome.reports, outcome.remarks)
                isFirst = false
            }
            version = next
            try report(version)
        }
        return version
    }
}
