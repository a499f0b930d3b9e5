import AccrueCore
import Hummingbird

/// Turns what goes wrong into answers: `{"error": {…}}` with the fields of `AccrueError`.
struct ErrorAnswers<Context: RequestContext>: RouterMiddleware {
    func handle(_ request: Request, context: Context, next: (Request, Context) async throws -> Response) async throws -> Response {
        do { return try await next(request, context) } catch let error as AccrueError {
            return Self.answer(error, status: error.code.status)
        } catch let error as HTTPError {
            return Self.answer(Self.reading(error, of: request), status: error.status)
        } catch let error where !(error is CancellationError) {
            return Self.answer(AccrueError(.unavailable, while: Self.doing(request), "\(error)"), status: .badRequest)
        }
    }

    static func answer(_ error: AccrueError, status: HTTPResponse.Status) -> Response {
        var headers: HTTPFields = [:]
        if let wait = error.retryAfterMs { headers[.retryAfter] = "\((wait + 999) / 1_000)" }
        if status == .unauthorized { headers[.wwwAuthenticate] = "Bearer" }
        let value = (try? JSONValue(encoding: error)) ?? .string(error.description)
        return .json(.object(["error": value]), status: status, headers: headers)
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
        return Response(status: status, headers: headers, body: ResponseBody(byteBuffer: ByteBuffer(bytes: value.canonicalBytes)))
    }

    static func json(encoding value: some Encodable) throws(AccrueError) -> Response { json(try JSONValue(encoding: value)) }

    static func bytes(_ bytes: some Sequence<UInt8>, type: String) -> Response {
        Response(status: .ok, headers: [.contentType: type], body: ResponseBody(byteBuffer: ByteBuffer(bytes: bytes)))
    }
}
