import AccrueCore
import Foundation
import Hummingbird

/// Turns what goes wrong into answers: `{"error": {…}}` with the fields of `AccrueError`.
struct ErrorAnswers<Context: RequestContext>: RouterMiddleware {
    func handle(_ request: Request, context: Context, next: (Request, Context) async throws -> Response) async throws -> Response {
        do { return try await next(request, context) } catch let error as AccrueError {
            return Self.answer(error, status: error.code.status)
        } catch let error as HTTPError {
            return Self.answer(Self.reading(error, of: request), status: error.status)
        } catch let error where !(error is CancellationError) {
            let error = AccrueError(.engine, while: Self.doing(request), "\(error)")
            return Self.answer(error, status: error.code.status)
        }
    }

    static func answer(_ error: AccrueError, status: HTTPResponse.Status) -> Response {
        var headers: HTTPFields = [:]
        if let wait = error.retryAfterMs { headers[.retryAfter] = "\((wait + 999) / 1_000)" }
        if status == .unauthorized { headers[.wwwAuthenticate] = "Bearer" }
        let value = (try? JSONValue(encoding: error)) ?? .string(error.description)
        return .json(.object(["error": value]), status: status, headers: headers)
    }

    /// - Parameter taken: the methods that the path takes.
    static func notAllowed(_ request: Request, taken: [String]) -> Response {
        let methods = taken.joined(separator: ", ")
        var response = answer(AccrueError(.invalidInput, while: doing(request), "this path takes \(methods)", hint: "GET / lists what there is"), status: .methodNotAllowed)
        response.headers[.allow] = methods
        return response
    }

    private static func doing(_ request: Request) -> String { "answering \(request.method.rawValue) \(request.uri.path)" }

    private static func reading(_ error: HTTPError, of request: Request) -> AccrueError {
        switch error.status {
        case .notFound: AccrueError(.notFound, while: doing(request), "there is nothing at this path", hint: "GET / lists what there is")
        case .contentTooLarge: AccrueError(.limitExceeded, while: doing(request), "the body is too large", hint: "send fewer rows at a time")
        default: AccrueError(.invalidInput, while: doing(request), error.body ?? error.status.reasonPhrase, hint: "GET / lists what there is")
        }
    }
}

extension AccrueError.Code {
    /// As ops/PROTOCOL.md, section 14, lists them.
    var status: HTTPResponse.Status {
        switch self {
        case .invalidInput: .badRequest
        case .unauthorised: .unauthorized
        case .notFound: .notFound
        case .conflict: .conflict
        case .limitExceeded: .contentTooLarge
        case .diverged: .unprocessableContent
        case .corrupt, .engine: .internalServerError
        case .unavailable: .serviceUnavailable
        }
    }
}

extension Response {
    static func json(_ value: JSONValue, status: HTTPResponse.Status = .ok, headers: HTTPFields = [:]) -> Response {
        var headers = headers
        headers[.contentType] = "application/json"
        return Response(status: status, headers: headers, body: ResponseBody(value.canonicalBytes))
    }

    static func json(encoding value: some Encodable) throws(AccrueError) -> Response { json(try JSONValue(encoding: value)) }

    /// - Parameter holding: what is let go of once all is sent.
    static func bytes(_ bytes: Data, type: String, holding: (any Sendable)? = nil) -> Response {
        Response(status: .ok, headers: [.contentType: type], body: ResponseBody(bytes, holding: holding))
    }
}

extension ResponseBody {
    /// Sends bytes piece by piece: the request is under way, and its connection not idle, until the last is taken.
    fileprivate init(_ bytes: Data, holding: (any Sendable)? = nil) {
        self.init(contentLength: bytes.count) { writer in
            for start in stride(from: bytes.startIndex, to: bytes.endIndex, by: Limits.pieceBytesMax) {
                try await writer.write(ByteBuffer(bytes: bytes[start..<min(bytes.endIndex, start + Limits.pieceBytesMax)]))
            }
            _ = holding
            try await writer.finish(nil)
        }
    }
}
