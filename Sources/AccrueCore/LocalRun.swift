public import Foundation

/// A pipeline run in one process, without sockets or store: rows become chunks, chunks become a log, and the log is folded into versions.
///
/// It is what `accrue run` does, and the quiet twin that a daemon's versions are compared with: the same log gives the same bytes.
public struct LocalRun: Sendable {
    /// One version as it appears.
    public struct Version: Sendable {
        public var number: Int
        public var state: Data
        public var absorbedChunks: Int
        public var absorbedRows: Int
        /// The absorbed rows scored with the version before.
        public var score: Score?
        public var reports: [FitReport]
    }

    private let fold: RoundFold
    private let rows: Rows
    private let chunks: [Range<Int>]
    /// The log that pushing the chunks one after the other, and a final flush, makes.
    public let log: [LogEntry]

    /// - Parameter chunks: ranges of `rows`, one a chunk, in the order in which they are pushed.
    public init(pipeline: PipelineDeclaration, method: any OpaqueMethod, rows: Rows, chunks: [Range<Int>]) {
        fold = RoundFold(pipeline: pipeline, method: method)
        self.rows = rows
        self.chunks = chunks
        var log: [LogEntry] = []
        for (index, range) in chunks.enumerated() {
            let part = rows.rows(range)
            let bytes = part.tensors.values.reduce(0) { $0 + $1.data.count }
            log.append(
                LogEntry(position: index + 1, kind: .chunk(.init(identity: part.identity, key: nil, rows: part.count, bytes: bytes))))
        }
        log.append(LogEntry(position: chunks.count + 1, kind: .cut))
        self.log = log
    }

    /// Folds the whole log.
    ///
    /// - Parameter report: called with each version as soon as it exists, version 0 included.
    /// - Throws: what the method throws.
    public func run(report: (Version) throws(AccrueError) -> Void) throws(AccrueError) -> Version {
        var version = Version(number: 0, state: try fold.initialState(), absorbedChunks: 0, absorbedRows: 0, score: nil, reports: [])
        try report(version)
        var position = 0
        while let stretch = Stretch.next(in: log, after: position, chunksPerRound: fold.pipeline.round.chunks) {
            let number = version.number + 1
            let outcome = try fold.next(version.state, version: number, stretch: stretch, rowsBefore: version.absorbedRows) {
                (position) throws(AccrueError) -> Rows in rows.rows(chunks[position - 1])
            }
            position = stretch.through
            version = Version(
                number: number, state: outcome.state, absorbedChunks: version.absorbedChunks + stretch.chunks.count,
                absorbedRows: version.absorbedRows + stretch.rows, score: outcome.score, reports: outcome.reports)
            try report(version)
        }
        return version
    }
}
