public import AccrueCore
public import AccrueWire
import Foundation

extension ClusterConnection {
    /// How long the coordinator is asked to wait at a time.
    private static let sliceMs = 5_000

    /// What a chunk is once it is no longer waiting, or after `timeoutMs`.
    /// - Throws: `notFound` for an unknown pipeline or position.
    public func outcome(ofPosition position: Int, in pipeline: String, timeoutMs: Int) async throws(AccrueError) -> Awaited {
        try await ask(.await, AwaitPosition(pipeline: pipeline, position: position, timeoutMs: timeoutMs), timeoutMs: timeoutMs + patience.absenceMs)
    }

    /// Waits until a chunk is absorbed, set aside or forgotten, however long that takes while the coordinator answers.
    /// - Parameter stillWaiting: called every few seconds.
    /// - Throws: `notFound` for an unknown pipeline or position.
    public func outcome(
        ofPosition position: Int, in pipeline: String, stillWaiting: () async throws(AccrueError) -> Void = { () throws(AccrueError) in }
    ) async throws(AccrueError) -> Awaited {
        while true {
            let awaited = try await outcome(ofPosition: position, in: pipeline, timeoutMs: Self.sliceMs)
            guard awaited.state == .waiting else { return awaited }
            try await stillWaiting()
        }
    }

    /// Waits, as long as an absence is waited for, until every querier that is there answers from this version or a later one.
    /// - Throws: `unavailable` when one does not in that time; `unauthorised` when the key does not allow queries; `notFound` for an unknown pipeline.
    public func served(_ version: Int, of pipeline: String) async throws(AccrueError) {
        // Which verb does not matter, or whether the method has it: the querier loads the version first.
        let question = try Message(.query, encoding: QueryHeader(pipeline: pipeline, verb: "describe", atLeast: version))
        for endpoint in try await refresh().query {
            let querier = try requester(to: endpoint, traffic: .control)
            do throws(AccrueError) { _ = try await querier.request(question, timeoutMs: patience.absenceMs) } catch where error.code == .notFound { continue }
        }
    }

    /// One page of what happened after an event number.
    public func events(_ query: EventsQuery) async throws(AccrueError) -> [EventRecord] { try await ask(.events, query, as: EventListing.self).events }

    /// What happened after an event number, in order; everything there is to ask for, page by page.
    public func events(after number: Int) async throws(AccrueError) -> [EventRecord] {
        var events: [EventRecord] = []
        while true {
            let page = try await self.events(EventsQuery(after: events.last?.number ?? number, limit: Limits.pageItemsMax))
            if page.isEmpty { return events }
            events += page
        }
    }

    /// Yields at once, at every published hint and, because hints may be lost, every second: each time it is worth asking for what is new.
    public func occasions() throws(AccrueError) -> AsyncStream<Void> {
        let (occasions, occasion) = AsyncStream<Void>.makeStream(bufferingPolicy: .bufferingNewest(1))
        occasion.yield()
        let name = "events-\(UUID().uuidString.prefix(8))"
        try loop.subscribe(name, to: endpoints.events) { _ in
            occasion.yield()
            return .taken
        }
        let timer = loop.timer(ms: 1_000, repeats: true) { occasion.yield() }
        occasion.onTermination = { [weak loop] _ in
            loop?.close(name)
            loop?.cancel(timer)
        }
        return occasions
    }
}
