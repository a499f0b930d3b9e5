import AccrueCore
@testable import AccrueHTTP
import Hummingbird
import Testing

@Suite("Who may ask over HTTP")
struct GateTests {
    private func problem(token: String? = nil, path: String = "/v1/status", host: String? = nil, origin: String? = nil, site: String? = nil, authorization: String? = nil) -> AccrueError? {
        Gate<BasicRequestContext>.problem(token: token, path: path, authority: host, origin: origin, site: site, authorization: authorization)
    }

    @Test("without a token, programs of this machine", arguments: [nil, "localhost", "LocalHost:7780", "127.0.0.1:7780", "127.1.2.3", "[::1]", "[::1]:7780"])
    func here(host: String?) { #expect(problem(host: host) == nil) }

    @Test("without a token, no page under another name", arguments: ["evil.example", "evil.example:7780", "127.evil.example", "localhost.evil.example", "[::1].evil.example", "[::2]:7780"])
    func rebound(host: String) { #expect(problem(host: host)?.code == .unauthorised) }

    @Test("without a token, no page of another site", arguments: [("http://localhost:3000", true), ("http://evil.example", false), ("null", false), ("", false)])
    func origin(origin: String, isLetIn: Bool) { #expect((problem(host: "localhost", origin: origin) == nil) == isLetIn) }

    @Test("without a token, no picture or script of a page of another site", arguments: [("same-origin", true), ("none", true), ("cross-site", false), ("same-site", false)])
    func site(site: String, isLetIn: Bool) { #expect((problem(host: "localhost", site: site) == nil) == isLetIn) }

    @Test("with a token whoever bears it, from anywhere", arguments: [
        ("Bearer right-and-long-enough", true), ("bearer right-and-long-enough", true), ("Bearer wrong", false), ("Bearer right-and-long-enougi", false), ("Bearer ", false),
        ("Basic right-and-long-enough", false), (nil, false),
    ])
    func token(authorization: String?, isLetIn: Bool) {
        let problem = problem(token: "right-and-long-enough", host: "example.org", origin: "http://example.org", authorization: authorization)
        #expect((problem == nil) == isLetIn)
        if !isLetIn { #expect(problem?.code == .unauthorised) }
    }

    @Test("whether the daemon lives may be asked by all")
    func health() { #expect(problem(token: "right-and-long-enough", path: "/healthz", host: "example.org") == nil) }
}
