public import AccrueCore
import AccrueWire
import Foundation
import Synchronization

/// How long the swap of the version that is served takes, and how long somebody waits who asks for it some thousand times a second meanwhile.
///
/// Versions are made ready one after the other as a querier makes them, each a state of its own; what is timed is the swap alone, and beside it what is
/// done before (making ready) and after (letting go of the version before), where nobody waits.
public struct SwapMeasurement: Sendable {
    private let pipeline: PipelineDeclaration
    private let method: any OpaqueMethod
    private let state: Data

    /// - Throws: what the method throws.
    public init(_ pipeline: PipelineDeclaration, method: any OpaqueMethod) throws(AccrueError) {
        self.pipeline = pipeline
        self.method = method
        state = try RoundFold(pipeline: pipeline, method: method).initialState()
    }

    /// Milliseconds, but for `swaps`, `asked` (how often the version was asked for meanwhile) and `stateBytes`.
    /// - Throws: what the method throws.
    public func run(swaps: Int) throws(AccrueError) -> [String: Double] {
        let newest = NewestVersions(), asker = Asker(newest, pipeline: pipeline.name)
        _ = newest.swap(try version(0))
        asker.start()
        defer { asker.stop() }
        var ready: [Double] = [], swapped: [Double] = [], released: [Double] = []
        for number in 1...swaps {
            let begun = MonotonicTime.now()
            let version = try version(number)
            let before = MonotonicTime.now()
            var old = newest.swap(version)
            let after = MonotonicTime.now()
            withExtendedLifetime(old) {}
            old = nil
            let end = MonotonicTime.now()
            ready.append(before.milliseconds(since: begun))
            swapped.append(after.milliseconds(since: before))
            released.append(end.milliseconds(since: after))
        }
        let waits = asker.stop()
        return [
            "swaps": Double(swaps), "stateBytes": Double(state.count), "medianMs": Self.quantile(swapped, 0.5), "p99Ms": Self.quantile(swapped, 0.99),
            "worstMs": Self.quantile(swapped, 1), "asked": Double(waits.count), "askerWorstMs": waits.worstMs, "readyMedianMs": Self.quantile(ready, 0.5),
            "releaseMedianMs": Self.quantile(released, 0.5),
        ]
    }

    private func version(_ number: Int) throws(AccrueError) -> ServedVersion {
        let record = PosteriorRecord(
            pipeline: pipeline.name, incarnation: "measured", version: number, hash: ContentHash(of: state), bytes: state.count, through: number, absorbedChunks: number,
            absorbedRows: number, createdAtMs: 0)
        return try ServedVersion.ready(record, seed: pipeline.seed, method: method, state: state)
    }

    private static func quantile(_ values: [Double], _ share: Double) -> Double {
        let sorted = values.sorted()
        return sorted.isEmpty ? 0 : sorted[min(sorted.count - 1, Int(Double(sorted.count) * share))]
    }
}

/// Asks for the version that is served, from a thread of its own.
private final class Asker: Sendable {
    struct Waits {
        var count = 0
        var worstMs = 0.0
    }

    private static let pauseMicroseconds: UInt32 = 100

    private let newest: NewestVersions
    private let pipeline: String
    private let isStopped = Mutex(false)
    private let thread = WorkThreads("asker")
    private let waits = Mutex(Waits())

    init(_ newest: NewestVersions, pipeline: String) {
        self.newest = newest
        self.pipeline = pipeline
    }

    func start() {
        thread.submit { [self] in
            var waits = Waits()
            while !isStopped.withLock(\.self) {
                let before = MonotonicTime.now()
                let version = newest[pipeline]
                let wait = MonotonicTime.now().milliseconds(since: before)
                withExtendedLifetime(version) {}
                waits.count += 1
                waits.worstMs = max(waits.worstMs, wait)
                // Without a pause it would mostly be interrupted while it holds the lock, and time the system's scheduler.
                usleep(Self.pauseMicroseconds)
            }
            self.waits.withLock { $0 = waits }
        }
    }

    @discardableResult
    func stop() -> Waits {
        isStopped.withLock { $0 = true }
        let done = DispatchSemaphore(value: 0)
        thread.submit { done.signal() }
        done.wait()
        return waits.withLock(\.self)
    }
}

extension MonotonicTime {
    fileprivate func milliseconds(since earlier: MonotonicTime) -> Double { Double(nanoseconds) / 1e6 - Double(earlier.nanoseconds) / 1e6 }
}
