import AccrueCore
import AccrueWire
import Hummingbird

/// Lets in who may ask: with a token whoever bears it; without one, on a loopback address, programs of this machine but no web page in a browser on it.
struct Gate<Context: RequestContext>: RouterMiddleware {
    let token: String?

    func handle(_ request: Request, context: Context, next: (Request, Context) async throws -> Response) async throws -> Response {
        if let problem = Self.problem(
            token: token, path: request.uri.path, authority: request.head.authority, origin: request.headers[.origin],
            site: request.headers.first { $0.name.canonicalName == "sec-fetch-site" }?.value, authorization: request.headers[.authorization])
        {
            throw problem
        }
        return try await next(request, context)
    }

    /// Why a request is not let in; nil when it is. Whether the daemon lives may be asked by all.
    static func problem(token: String?, path: String, authority: String?, origin: String?, site: String?, authorization: String?) -> AccrueError? {
        if path == healthPath { return nil }
        let operation = "answering a request to \(path)"
        if let token {
            guard let authorization, authorization.lowercased().hasPrefix("bearer "), isSame(authorization.dropFirst("bearer ".count).utf8, token.utf8) else {
                return AccrueError(.unauthorised, while: operation, "it does not bear the token", hint: "send the header 'Authorization: Bearer TOKEN'")
            }
            return nil
        }
        // A page of any site may ask the browser to send requests here, under its own name or one that it lets stand for this address.
        if let authority, !isHere(authority) {
            return AccrueError(.unauthorised, while: operation, "it is for the host '\(authority)'; without a token this machine alone is served", hint: "ask for localhost, or give the daemon a token")
        }
        if let origin, !isHere(origin.split(separator: "/").last.map(String.init) ?? "") {
            return AccrueError(.unauthorised, while: operation, "it comes from a page of \(origin); without a token pages of other sites are not served", hint: "give the daemon a token")
        }
        // Browsers say so also where they send no origin, of pictures and scripts.
        if let site, site != "same-origin", site != "none" {
            return AccrueError(.unauthorised, while: operation, "a page of another site asks for it; without a token such pages are not served", hint: "give the daemon a token")
        }
        return nil
    }

    static var healthPath: String { "/healthz" }

    /// - Parameter authority: `HOST` or `HOST:PORT`, as a browser sends it.
    private static func isHere(_ authority: String) -> Bool {
        let host = authority.hasSuffix("]") ? authority[...] : authority[..<(authority.lastIndex(of: ":") ?? authority.endIndex)]
        return KeyedEndpoint.isLoopback(host.lowercased())
    }

    /// Takes the same time whichever byte differs.
    private static func isSame(_ left: some Collection<UInt8>, _ right: some Collection<UInt8>) -> Bool {
        left.count == right.count && zip(left, right).reduce(0) { $0 | ($1.0 ^ $1.1) } == 0
    }
}
