import Glibc

/// A moment of the machine's monotonic clock. Only differences mean anything, and only within one boot of the machine.
public struct MonotonicTime: Comparable, Hashable, Codable, Sendable {
    public var nanoseconds: UInt64

    public init(nanoseconds: UInt64) { self.nanoseconds = nanoseconds }

    /// Reads the clock. Decisions take the moment as an argument; only threads that drive them call this.
    public static func now() -> MonotonicTime {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return MonotonicTime(nanoseconds: UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec))
    }

    public func adding(ms: Int) -> MonotonicTime { MonotonicTime(nanoseconds: nanoseconds + UInt64(max(0, ms)) * 1_000_000) }

    /// Whole milliseconds since an earlier moment; 0 when `earlier` is later.
    public func ms(since earlier: MonotonicTime) -> Int { nanoseconds > earlier.nanoseconds ? Int((nanoseconds - earlier.nanoseconds) / 1_000_000) : 0 }

    /// Milliseconds from this moment until now, for measurements.
    public var elapsedMs: Double { Double(Self.now().nanoseconds - nanoseconds) / 1e6 }

    public static func < (left: MonotonicTime, right: MonotonicTime) -> Bool { left.nanoseconds < right.nanoseconds }
}
