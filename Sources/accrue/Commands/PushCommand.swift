import AccrueClient
import AccrueCore
import AccrueWire
import ArgumentParser

/// `accrue push NAME …`
struct PushCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "push", abstract: "Push rows to a pipeline, in chunks.",
        discussion: """
            A chunk that is acknowledged is on disk and in the log; pushing the same chunk again, also after an unclear failure, does nothing more.
            Identical rows that are meant twice need two keys.

            EXAMPLES
              accrue push digits --tensor inputs=images.gz --tensor targets=labels.gz \\
                --rows-per-chunk 6000
              accrue push digits --tensor inputs=images.npy --tensor targets=labels.npy \\
                --first-row 6000 --rows 6000 --key monday --wait
              accrue push energy readings.csv --rows-per-chunk 500 --json
            """)

    @Argument(help: "The pipeline.") var name: String
    @Argument(help: "A CSV file; its columns are mapped by the pipeline's schema.") var file: String?
    @OptionGroup var rows: RowOptions
    @Option(help: "Rows a chunk; else all rows are one chunk.") var rowsPerChunk: Int?
    @Option(help: "The chunk's key; several chunks become KEY/0, KEY/1, ….") var key: String?
    @Option(help: "Chunks that may be unacknowledged; the log keeps their order only with 1.") var window = 1
    @Flag(help: "End the round after the last chunk; wait until all are absorbed and queries are answered from there on; exit 1 if one is set aside.") var wait = false
    @Flag(help: "One JSON line a chunk: chunk, position, duplicate.") var json = false
    @OptionGroup var connection: ConnectOptions

    func validate() throws {
        if let rowsPerChunk, rowsPerChunk < 1 { throw ValidationError("--rows-per-chunk must be at least 1") }
        guard (1...1_024).contains(window) else { throw ValidationError("--window must be from 1 to 1024") }
    }

    func run() async throws {
        let operation = "pushing to pipeline '\(name)'"
        let cluster: ClusterConnection, read: TensorRows
        if let file {
            cluster = try await connection.open()
            read = try rows.read(csv: file, schema: try await cluster.pipeline(name).declaration.schema, while: operation)
        } else {
            read = try rows.read(while: operation)
            cluster = try await connection.open()
        }
        let ranges = read.ranges(perRange: rowsPerChunk ?? read.count)
        let progress = ProgressLine()
        var positions: [Int] = []
        var failure: (any Error)?
        defer { progress.clear() }
        try await cluster.push(count: ranges.count, to: name, window: window) { [key, first = rows.firstRow] index throws(AccrueError) in
            let range = ranges[index], isOne = ranges.count == 1
            return OutgoingChunk(
                bytes: read.chunk(range), key: key.map { isOne ? $0 : "\($0)/\(index)" },
                title: isOne ? nil : "the chunk that begins with row \(first + range.lowerBound) of those given (from 0)")
        } acknowledged: { index, acknowledgement in
            positions.append(acknowledgement.position)
            progress.clear()
            do { try show(acknowledgement, rows: ranges[index].count) } catch { failure = error }
            progress.show("pushed \(index + 1) of \(ranges.count) chunks, \(ranges[index].upperBound) rows")
        }
        if let failure { throw failure }
        if wait { try await PushOutcome(cluster: cluster, pipeline: name, progress: progress).wait(for: positions) }
    }

    private func show(_ acknowledgement: Acknowledgement, rows: Int) throws {
        if json { return try Output.json(acknowledgement) }
        let note = acknowledgement.duplicate ? "  (was there before)" : ""
        Output.line("position \(acknowledgement.position)  chunk \(acknowledgement.chunk.short)  \(rows) rows\(note)")
    }
}
