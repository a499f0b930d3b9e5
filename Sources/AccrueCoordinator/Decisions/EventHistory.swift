import AccrueWire

/// What happened lately, for people. Numbers grow, also over restarts: they begin at the time of the start.
struct EventHistory: Sendable {
    private static let kept = 10_000
    private var events: [EventRecord] = []
    private var next: Int

    init(at now: Moment) { next = now.wallMs * 1_000 + 1 }

    mutating func add(_ kind: String, pipeline: String? = nil, _ text: String, at now: Moment) {
        events.append(EventRecord(number: next, atMs: now.wallMs, pipeline: pipeline, kind: kind, text: text))
        next += 1
        if events.count > 2 * Self.kept { events.removeFirst(Self.kept) }
    }

    func after(_ number: Int, limit: Int) -> [EventRecord] {
        // The newest are the ones asked for again and again.
        var start = events.count
        while start > 0, events[start - 1].number > number { start -= 1 }
        return Array(events[start...].prefix(limit))
    }
}
