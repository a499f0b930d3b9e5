import AccrueBayes
import AccrueCore
import AccrueTensor
import AccrueWire
import ArgumentParser
import Foundation

/// `accrue-engine bench-merge`: how long the merge of diagonal states takes, in this process, on one thread, and how long copying as many bytes does.
struct BenchMergeCommand: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "bench-merge", abstract: "Time the merge of states against copying as many bytes.")

    @Option(help: "States to merge.") var states = 8
    @Option(help: "Weights of a state.") var weights = 10_000_000
    @Option(help: "How often it is done.") var repeats = 15
    @Flag(help: "One JSON object.") var json = false

    private static let bytesMax = 8 << 30

    func validate() throws {
        guard (1...10_000).contains(states), (1...1_000_000_000).contains(weights), (1...10_000).contains(repeats) else {
            throw ValidationError("--states is \(states), --weights \(weights), --repeats \(repeats); at least 1 of each, and at most 10000, 1000000000 and 10000")
        }
        let bytes = states * weights * MemoryLayout<Float>.size
        guard bytes <= Self.bytesMax else { throw ValidationError("the states have \(bytes) bytes together; at most \(Self.bytesMax)") }
    }

    func run() throws {
        EngineFingerprint.beginThread()
        let key = RandomKey(seed: 1)
        let parts = try (0..<states).map { Weighted(NamedTensors([("w", try key.folding($0).uniform([weights]))]), rows: 100 + $0) }
        // A copy reads and writes each byte.
        let moved = (states + 1) * weights * MemoryLayout<Float>.size
        let source = Pages(moved / 2), target = Pages(moved / 2)
        var merges: [Double] = [], copies: [Double] = []
        // The first turn, which brings pages and caches into use, does not count.
        for _ in 0...repeats {
            merges.append(try milliseconds { _ = try parts.mean() })
            copies.append(milliseconds { target.copy(from: source) })
        }
        let merge = BenchProblem.median(merges.dropFirst()), copy = BenchProblem.median(copies.dropFirst())
        let rate = Double(moved) / merge / 1e6, copyRate = Double(moved) / copy / 1e6
        BenchProblem.show([
            "medianMs": merge, "minMs": merges.dropFirst().min() ?? 0, "maxMs": merges.dropFirst().max() ?? 0, "gigabytesPerSecond": rate,
            "copyGigabytesPerSecond": copyRate, "share": rate / copyRate, "count": Double(repeats),
        ], json: json)
    }

    private func milliseconds(_ body: () throws -> Void) rethrows -> Double {
        let start = MonotonicTime.now()
        try body()
        return start.elapsedMs
    }

    /// Memory that was written to.
    private final class Pages {
        private let bytes: UnsafeMutableRawBufferPointer

        init(_ count: Int) {
            bytes = .allocate(byteCount: count, alignment: 64)
            bytes.initializeMemory(as: UInt8.self, repeating: 1)
        }

        deinit { bytes.deallocate() }

        func copy(from other: Pages) { bytes.copyMemory(from: UnsafeRawBufferPointer(other.bytes)) }
    }
}
