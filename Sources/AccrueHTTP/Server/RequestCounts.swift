import Foundation
import Hummingbird
import Synchronization

/// How many requests were answered how, and how long that took.
final class RequestCounts: Sendable {
    struct Key: Hashable, Comparable {
        var method: String
        /// As declared: `/v1/pipelines/{name}`, so that there are as many as routes.
        var route: String
        var status: Int

        static func < (left: Key, right: Key) -> Bool { (left.route, left.method, left.status) < (right.route, right.method, right.status) }
    }
    struct Amount { var count = 0, seconds = 0.0 }

    private let amounts = Mutex<[Key: Amount]>([:])

    func add(_ key: Key, seconds: Double) {
        amounts.withLock { amounts in
            amounts[key, default: Amount()].count += 1
            amounts[key, default: Amount()].seconds += seconds
        }
    }

    var sorted: [(key: Key, amount: Amount)] { amounts.withLock { $0 }.sorted { $0.key < $1.key }.map { ($0.key, $0.value) } }
}

/// Counts every request that is answered.
struct CountedRequests<Context: RequestContext>: RouterMiddleware {
    let counts: RequestCounts

    func handle(_ request: Request, context: Context, next: (Request, Context) async throws -> Response) async throws -> Response {
        let start = ContinuousClock.now
        let response = try await next(request, context)
        let took = (ContinuousClock.now - start).components
        counts.add(
            RequestCounts.Key(method: request.method.rawValue, route: context.endpointPath ?? "NotFound", status: response.status.code),
            seconds: Double(took.seconds) + Double(took.attoseconds) * 1e-18)
        return response
    }
}
