public import AccrueClient
public import AccrueCore
import Hummingbird
import HummingbirdCore

/// JSON over HTTP in front of a cluster: an ordinary client of it, with a server before that.
public struct HTTPService: Sendable {
    private let settings: HTTPSettings
    private let cluster: ClusterConnection

    public init(_ settings: HTTPSettings, cluster: ClusterConnection) {
        self.settings = settings
        self.cluster = cluster
    }

    /// Serves until the task is cancelled.
    /// - Parameter ready: told the URL, with the port that was found where any would do.
    /// - Throws: `unavailable` when the address cannot be listened on.
    public func run(ready: @escaping @Sendable (String) -> Void) async throws(AccrueError) {
        let shown = settings.host.contains(":") ? "[\(settings.host)]" : settings.host
        var application = Application(
            router: router(), server: .http1(configuration: .init(idleTimeout: .milliseconds(Int64(Limits.httpIdleMs)))),
            configuration: ApplicationConfiguration(
                address: .hostname(settings.host, port: settings.port), availableConnectionsDelegate: MaximumAvailableConnections(Limits.httpConnectionsMax)),
            onServerRunning: { channel in ready("http://\(shown):\(channel.localAddress?.port ?? 0)") })
        // What goes wrong is answered; the server itself has nothing to say.
        application.logger.logLevel = .critical
        do { try await application.run() } catch is CancellationError {} catch {
            throw AccrueError(.unavailable, while: "listening for HTTP at \(shown):\(settings.port)", "\(error)", hint: "choose another address with --http, or end what listens there")
        }
    }

    private func router() -> Router<BasicRequestContext> {
        let router = Router()
        let requests = RequestCounts()
        router.addMiddleware {
            CountedRequests(counts: requests)
            ErrorAnswers()
            Gate(token: settings.token)
        }
        let room = BodyRoom()
        DaemonRoutes(cluster: cluster, requests: requests).add(to: router)
        PipelineRoutes(cluster: cluster, room: room).add(to: router.group("v1/pipelines"))
        ChunkRoutes(cluster: cluster, room: room).add(to: router.group("v1/pipelines/:name/chunks"))
        PosteriorRoutes(cluster: cluster, room: room).add(to: router.group("v1/pipelines/:name/posteriors"))
        QueryRoutes(cluster: cluster, room: room).add(to: router.group("v1/pipelines/:name/query"))
        refuseOtherMethods(of: router)
        return router
    }

    /// A path that takes other methods is there, and says which.
    private func refuseOtherMethods(of router: Router<BasicRequestContext>) {
        for (path, routes) in Dictionary(grouping: router.routes, by: \.path.description) {
            let taken = routes.map(\.method.rawValue).sorted()
            for method in [HTTPRequest.Method.get, .head, .post, .put, .patch, .delete, .options] where !taken.contains(method.rawValue) {
                router.on(RouterPath(path), method: method) { request, _ in ErrorAnswers<BasicRequestContext>.notAllowed(request, taken: taken) }
            }
        }
    }
}
