import AccrueClient
import AccrueCore
import AccrueWire
import Foundation
import Hummingbird

/// Pipelines: made, shown, deleted, and told to go on.
struct PipelineRoutes: Sendable {
    let cluster: ClusterConnection
    let room: BodyRoom

    func add(to pipelines: RouterGroup<BasicRequestContext>) {
        pipelines.get { _, _ in Response.json(.object(["pipelines": .array(try await cluster.pipelines().map { try JSONValue(encoding: $0) })])) }
        pipelines.get(":name") { request, context in
            let asked = try Parameters(request, context) { "showing pipeline '\($0)'" }
            return try Response.json(encoding: try await cluster.pipeline(asked.pipeline))
        }
        pipelines.put(":name") { request, context in
            let asked = try Parameters(request, context) { "applying pipeline '\($0)'" }
            return try await room.withBody(of: request, atMost: Limits.headerBytesMax, while: asked.operation) { bytes in
                let declaration = try PipelineDeclaration(parsing: try JSONValue(parsing: bytes))
                guard declaration.name == asked.pipeline else {
                    throw AccrueError(.invalidInput, while: asked.operation, "the declaration is of pipeline '\(declaration.name)'", hint: "write the same name in path and declaration")
                }
                return try Response.json(encoding: try await cluster.apply(declaration))
            }
        }
        pipelines.delete(":name") { request, context in
            let asked = try Parameters(request, context) { "deleting pipeline '\($0)'" }
            try await cluster.delete(asked.pipeline)
            return Response.json(.object([:]))
        }
        pipelines.post(":name/flush") { request, context in
            let asked = try Parameters(request, context) { "flushing pipeline '\($0)'" }
            return try Response.json(encoding: try await cluster.flush(asked.pipeline))
        }
        pipelines.post(":name/resume") { request, context in
            let asked = try Parameters(request, context) { "resuming pipeline '\($0)'" }
            try await cluster.resume(asked.pipeline)
            return Response.json(.object([:]))
        }
    }
}
