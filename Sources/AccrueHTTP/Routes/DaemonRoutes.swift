import AccrueClient
import AccrueCore
import AccrueWire
import Foundation
import Hummingbird
import Synchronization

/// What is asked of the daemon as a whole: whether it lives, its figures, its events.
struct DaemonRoutes: Sendable {
    let cluster: ClusterConnection
    let requests: RequestCounts
    private let streams = OpenStreams()

    init(cluster: ClusterConnection, requests: RequestCounts) {
        self.cluster = cluster
        self.requests = requests
    }

    func add(to router: Router<BasicRequestContext>) {
        router.get("/") { _, _ in Response.json(.object(["routes": .array(Self.routes.map { .string($0) })])) }
        router.get("healthz") { _, _ in
            // For all, and for probes that do not wait long.
            do { _ = try await cluster.status(timeoutMs: Self.healthMs) } catch { return Response.json(.object(["status": "unavailable"]), status: .serviceUnavailable) }
            return Response.json(.object(["status": "ok"]))
        }
        router.get("metrics") { _, _ in
            Response.bytes(Data(Metrics(try await cluster.status(), requests: requests.sorted).text.utf8), type: "text/plain; version=0.0.4")
        }
        router.get("v1/status") { _, _ in try Response.json(encoding: try await cluster.status()) }
        router.get("v1/events") { request, context in
            let asked = try Parameters(request, context, known: ["after", "limit"]) { _ in "listing events" }
            return try Response.json(encoding: EventListing(events: try await cluster.events(
                EventsQuery(after: try asked.whole("after") ?? 0, limit: try asked.limit()))))
        }
        router.get("v1/events/stream") { request, context in
            let asked = try Parameters(request, context, known: ["after"]) { _ in "following events" }
            // A browser that comes back says what it saw last.
            let seen = try request.headers.first { $0.name.canonicalName == "last-event-id" }.map { field throws(AccrueError) in try asked.whole(field.value, "Last-Event-ID") }
            return try stream(after: try seen ?? asked.whole("after") ?? 0)
        }
    }

    /// Server-sent events: each with its number as `id` and the event's JSON as `data`.
    private func stream(after first: Int) throws(AccrueError) -> Response {
        let place = try streams.open()
        let occasions = try cluster.occasions()
        return Response(status: .ok, headers: [.contentType: "text/event-stream", .cacheControl: "no-store"], body: ResponseBody { writer in
            defer { _ = place }
            var last = first
            var quiet = 0
            for await _ in occasions {
                let events = try await cluster.events(after: last)
                last = events.last?.number ?? last
                quiet = events.isEmpty ? quiet + 1 : 0
                if events.isEmpty, quiet % Self.quietOccasions != 1 { continue }
                // A comment now and then, by which a reader that is gone is noticed.
                let text = try events.isEmpty ? ":\n\n" : events.map { "id: \($0.number)\ndata: \(try JSONValue(encoding: $0).canonical)\n\n" }.joined()
                try await writer.write(ByteBuffer(string: text))
            }
            try await writer.finish(nil)
        })
    }

    private static let quietOccasions = 10
    private static let healthMs = 2_000

    private static let routes = [
        "GET /healthz", "GET /metrics", "GET /v1/status", "GET /v1/events?after=&limit=", "GET /v1/events/stream?after=", "GET /v1/pipelines", "GET /v1/pipelines/{name}",
        "PUT /v1/pipelines/{name}", "DELETE /v1/pipelines/{name}", "POST /v1/pipelines/{name}/flush", "POST /v1/pipelines/{name}/resume", "POST /v1/pipelines/{name}/chunks?key=&wait=",
        "GET /v1/pipelines/{name}/chunks?state=&after=&limit=", "GET /v1/pipelines/{name}/chunks/{position}?waitMs=", "POST /v1/pipelines/{name}/chunks/retry",
        "POST /v1/pipelines/{name}/chunks/set-aside", "GET /v1/pipelines/{name}/posteriors?after=&limit=", "POST /v1/pipelines/{name}/posteriors?key=",
        "GET /v1/pipelines/{name}/posteriors/{version}", "GET /v1/pipelines/{name}/posteriors/{version}/state", "GET or POST /v1/pipelines/{name}/query/{verb}?at=&atLeast=&seed=&draws=&summary=",
    ]
}

/// Counts streams that go on for as long as somebody reads.
private final class OpenStreams: Sendable {
    /// Gives its place back when it is let go of.
    final class Place: Sendable {
        private let streams: OpenStreams
        init(_ streams: OpenStreams) { self.streams = streams }
        deinit { streams.count.withLock { $0 -= 1 } }
    }

    private let count = Mutex(0)

    /// - Throws: `unavailable` when there are `Limits.httpEventStreamsMax`.
    func open() throws(AccrueError) -> Place {
        let isOpen = count.withLock { count in
            guard count < Limits.httpEventStreamsMax else { return false }
            count += 1
            return true
        }
        guard isOpen else {
            throw AccrueError(
                .unavailable, while: "following events", "\(Limits.httpEventStreamsMax) streams of events are open, which is as many as may be", hint: "ask GET /v1/events now and then",
                retryAfterMs: 10_000)
        }
        return Place(self)
    }
}
