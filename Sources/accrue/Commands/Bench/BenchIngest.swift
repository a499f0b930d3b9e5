import AccrueClient
import AccrueCore
import AccrueWire
import ArgumentParser
import Foundation
import Synchronization

extension BenchCommand {
    /// `accrue bench ingest`
    struct Ingest: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Push random chunks to a pipeline made for it, and say how long acknowledgements took.",
            discussion: """
                The pipeline's round is longer than the chunks pushed, so that nothing is learned; it is deleted in the end. An acknowledgement comes when a
                chunk is on the worker's disk and in the coordinator's log.

                EXAMPLES
                  accrue bench ingest --bytes 1048576 --chunks 500
                  accrue bench ingest --bytes 4096 --window 64 --json
                """)

        @Option(help: "Bytes of a chunk's rows, a multiple of 1024.") var bytes = 4_096
        @Option(help: "Chunks to push.") var chunks = 1_000
        @Option(help: "Chunks that may be unacknowledged.") var window = 1
        @Flag(help: "Print JSON.") var json = false
        @OptionGroup var connection: ConnectOptions

        func validate() throws {
            guard bytes % Self.rowBytes == 0, (Self.rowBytes...Limits.chunkBytesMax / 2).contains(bytes) else {
                throw ValidationError("--bytes is \(bytes); it must be a multiple of \(Self.rowBytes), up to \(Limits.chunkBytesMax / 2)")
            }
            guard (1..<Limits.roundChunksMax).contains(chunks) else { throw ValidationError("--chunks is \(chunks); it must be 1 to \(Limits.roundChunksMax - 1)") }
            guard window > 0 else { throw ValidationError("--window must be at least 1") }
        }

        func run() async throws {
            let cluster = try await connection.open()
            let pipeline = Self.pipeline(named: "bench-ingest-\(UUID().uuidString.prefix(8).lowercased())")
            _ = try await cluster.apply(pipeline)
            let rows = Self.rows(bytes / Self.rowBytes)
            let outgoing = (0..<chunks).map { Self.chunk($0, rows) }
            // When each was given away; its acknowledgement is told in order.
            let times = Mutex([UInt64](repeating: 0, count: chunks))
            let start = MonotonicTime.now()
            do {
                try await cluster.push(count: chunks, to: pipeline.name, window: window) { index throws(AccrueError) in
                    times.withLock { $0[index] = MonotonicTime.now().nanoseconds }
                    return outgoing[index]
                } acknowledged: { index, _ in
                    times.withLock { $0[index] = MonotonicTime.now().nanoseconds - $0[index] }
                }
            } catch {
                try? await cluster.delete(pipeline.name)
                throw error
            }
            let seconds = Double(MonotonicTime.now().nanoseconds - start.nanoseconds) / 1e9
            try await cluster.delete(pipeline.name)
            let sorted = times.withLock { $0 }.map { Double($0) / 1e6 }.sorted()
            let figures = [
                "chunks": Double(chunks), "bytes": Double(bytes), "window": Double(window), "seconds": seconds, "chunksPerSecond": Double(chunks) / seconds,
                "mebibytesPerSecond": Double(chunks * bytes) / seconds / Double(1 << 20), "medianMs": sorted[chunks / 2], "p99Ms": sorted[min(chunks - 1, chunks * 99 / 100)],
                "maxMs": sorted[chunks - 1],
            ]
            try Output.figures(figures, json: json)
        }

        private static let rowBytes = 1_024

        private static func pipeline(named name: String) -> PipelineDeclaration {
            let schema = Schema([
                TensorSchema("inputs", role: .input, dtype: .f32, shape: [rowBytes / 4 - 1]), TensorSchema("targets", role: .target, dtype: .f32, shape: []),
            ])
            return PipelineDeclaration(
                name: name, method: "IncrementalBayes", seed: 1, schema: schema,
                settings: ["model": ["kind": "linear"], "likelihood": ["kind": "gaussian", "noisePrecision": 1]], round: .init(chunks: Limits.roundChunksMax))
        }

        private static func rows(_ count: Int) -> [Float] {
            var random = SystemRandomNumberGenerator()
            return (0..<count * (rowBytes / 4 - 1)).map { _ in Float(Int32(truncatingIfNeeded: random.next())) * 0x1p-31 }
        }

        /// One of many that differ.
        private static func chunk(_ index: Int, _ rows: [Float]) -> OutgoingChunk {
            let width = rowBytes / 4 - 1, count = rows.count / width
            let tensors = [
                "inputs": TensorBytes(rows, shape: [count, width]), "targets": TensorBytes([Float](repeating: Float(index), count: count), shape: [count]),
            ]
            return OutgoingChunk(bytes: Safetensors(tensors: tensors).encode())
        }
    }
}
