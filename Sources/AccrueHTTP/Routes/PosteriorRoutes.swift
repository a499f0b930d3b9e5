import AccrueClient
import AccrueCore
import AccrueWire
import Foundation
import Hummingbird

/// Versions of a posterior: listed, exported, imported.
struct PosteriorRoutes: Sendable {
    let cluster: ClusterConnection
    let room: BodyRoom

    func add(to posteriors: RouterGroup<BasicRequestContext>) {
        posteriors.get { request, context in
            let asked = try Parameters(request, context, known: ["after", "limit"]) { "listing versions of pipeline '\($0)'" }
            return try Response.json(encoding: try await cluster.versions(PosteriorsQuery(
                pipeline: asked.pipeline, after: try asked.whole("after"), limit: try asked.limit())))
        }
        posteriors.post { request, context in
            let asked = try Parameters(request, context, known: ["key"]) { "importing into pipeline '\($0)'" }
            return try await room.withBody(of: request, atMost: Limits.httpBodiesBytesMax, while: asked.operation) { bytes in
                _ = try request.tensors(of: bytes, while: asked.operation)
                return try Response.json(encoding: try await cluster.importPosterior(bytes, into: asked.pipeline, key: asked.text("key")))
            }
        }
        posteriors.get(":version") { request, context in
            let asked = try Parameters(request, context) { "showing a version of pipeline '\($0)'" }
            return try Response.json(encoding: try await version(asked))
        }
        posteriors.get(":version/state") { request, context in
            let asked = try Parameters(request, context) { "exporting a version of pipeline '\($0)'" }
            let version = try await version(asked), share = try room.share(version.bytes, while: asked.operation)
            return Response.bytes(try await cluster.export(of: version).bytes, type: "application/octet-stream", holding: share)
        }
    }

    /// The version that the path names, by number or as `newest`.
    private func version(_ asked: Parameters) async throws(AccrueError) -> PosteriorRecord {
        let text = asked.path("version")
        return try await cluster.version(text == "newest" ? nil : try asked.whole(text, "version"), of: asked.pipeline)
    }
}
