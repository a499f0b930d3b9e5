public import AccrueCore
import AccrueStore
import AccrueWire
import Foundation

/// What a long log takes a coordinator: reading all of it at a start, and going on from one version to the next while many chunks wait.
public struct LogMeasurement: Sendable {
    private let home: String
    private let waiting: Int

    /// - Parameters:
    ///   - home: a new directory for the log.
    ///   - versions: how many there are, each of which absorbed one chunk.
    ///   - waiting: chunks behind them.
    /// - Throws: what the store throws.
    public init(home: String, versions: Int, waiting: Int) throws(AccrueError) {
        self.home = home
        self.waiting = waiting
        let store = try Store(home: home), state = try store.states.put(Data("state".utf8))
        let schema = Schema([TensorSchema("inputs", role: .input, dtype: .f32, shape: [])])
        let declaration = PipelineDeclaration(name: "measured", method: "none", seed: 1, schema: schema, settings: .object([:]), round: .init(chunks: 1))
        try store.createPipeline(declaration, incarnation: "measured", phases: MethodPhases(scores: false, statistics: false), initialState: state)
        for start in stride(from: 1, through: versions + waiting, by: 1_000) {
            let chunks = (start..<min(start + 1_000, versions + waiting + 1)).map { number in
                AnnouncedChunk(LogEntry.Chunk(identity: ContentHash(of: Data("\(number)".utf8)), key: nil, rows: 4, bytes: 4_096), workers: ["worker-0"])
            }
            _ = try store.append(chunks, incarnation: "measured")
        }
        for version in 1..<versions + 1 { try store.publish(Self.version(version, state), incarnation: "measured") }
    }

    private static func version(_ number: Int, _ state: ContentHash) -> VersionRecord {
        VersionRecord(version: number, state: state, through: number, absorbedChunks: number, absorbedRows: 4 * number)
    }

    /// The time from opening the store until the coordinator knows all of it, and of each waiting chunk that a version absorbs, both in milliseconds.
    /// - Throws: what the store throws.
    public func run() throws(AccrueError) -> (start: Double, versions: [Double]) {
        let start = MonotonicTime.now(), moment = Moment.now()
        var coordinator = Coordinator(
            boot: "measured", endpoints: Endpoints(bulk: "", events: ""), recovered: try RecoveredPipeline.all(of: try Store(home: home)), at: moment)
        let startMs = start.elapsedMs
        var times: [Double] = []
        for _ in 0..<waiting {
            let before = MonotonicTime.now()
            coordinator.pipelines["measured"]?.beginRound()
            guard let newest = coordinator.pipelines["measured"]?.newest else { break }
            coordinator.published(Self.version(newest.version + 1, newest.state), "measured", at: moment)
            times.append(before.elapsedMs)
        }
        return (startMs, times)
    }
}
