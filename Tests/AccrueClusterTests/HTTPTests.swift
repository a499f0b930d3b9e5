import AccrueClient
import AccrueCore
import AccrueHTTP
import AccrueTesting
import AccrueWire
import Foundation
import FoundationNetworking
import Testing

@Suite("JSON over HTTP in front of a cluster", .timeLimit(.minutes(5)))
struct HTTPTests {
    /// A server on a free port, and what asks it.
    struct Site: Sendable {
        let url: String
        let token: String?

        /// - Returns: the status and the body, as JSON where it is that.
        func ask(_ method: String, _ path: String, json: String? = nil, bytes: Data? = nil, headers: [String: String] = [:]) async throws -> (status: Int, body: JSONValue, bytes: Data) {
            var request = URLRequest(url: try #require(URL(string: url + path)))
            request.httpMethod = method
            if let token { request.setValue("Bearer \(token)", forHTTPHeaderField: "Authorization") }
            if let json { request.setValue("application/json", forHTTPHeaderField: "Content-Type"); request.httpBody = Data(json.utf8) }
            if let bytes { request.setValue("application/octet-stream", forHTTPHeaderField: "Content-Type"); request.httpBody = bytes }
            for (name, value) in headers { request.setValue(value, forHTTPHeaderField: name) }
            let (data, response) = try await URLSession.shared.data(for: request)
            return ((response as? HTTPURLResponse)?.statusCode ?? 0, (try? JSONValue(parsing: data)) ?? .null, data)
        }
    }

    /// A whole cluster with HTTP in front of it.
    private func withSite(tokenFile: String? = nil, method: HashChain = HashChain(), _ body: @escaping @Sendable (Site, Cluster) async throws -> Void) async throws {
        let cluster = try Cluster(method: method)
        let settings = try HTTPSettings(address: "127.0.0.1:*", tokenFile: tokenFile)
        try await cluster.withCoordinator {
            try await cluster.withWorkers(["a"]) {
                try await cluster.withQuerier {
                    _ = try await cluster.control.askPatiently(.hello, Hello(role: .client), as: Welcome.self)
                    let connection = try await ClusterConnection.open(cluster.control.endpoint)
                    defer { connection.close() }
                    let (urls, url) = AsyncStream<String>.makeStream()
                    let serving = Task {
                        defer { url.finish() }
                        try await HTTPService(settings, cluster: connection).run { url.yield($0) }
                    }
                    for await url in urls {
                        do { try await body(Site(url: url, token: settings.token), cluster) } catch {
                            serving.cancel()
                            throw error
                        }
                        break
                    }
                    serving.cancel()
                    // What the server says of being ended is nothing.
                    if case .failure(let error as AccrueError) = await serving.result { throw error }
                }
            }
        }
    }

    private static let declaration = """
        {"name": "chain", "method": "HashChain", "seed": 1, "round": {"chunks": 2}, "schema": [{"name": "values", "role": "input", "dtype": "F64", "shape": []}]}
        """

    @Test("a pipeline is made, takes chunks as JSON and as safetensors, learns them and answers; what it made is what the log says")
    func wholePath() async throws {
        try await withSite { site, cluster in
            #expect(try await site.ask("PUT", "/v1/pipelines/chain", json: Self.declaration).status == 200)
            let first = try await site.ask("POST", "/v1/pipelines/chain/chunks?key=number%201:%20100%2525", json: #"{"tensors": {"values": [1, 2, 3]}}"#)
            #expect(first.status == 200 && first.body["position"] == 1 && first.body["duplicate"] == false)
            #expect(try await site.ask("POST", "/v1/pipelines/chain/chunks?key=number%201:%20100%2525", json: #"{"tensors": {"values": [1, 2, 3]}}"#).body["duplicate"] == true)
            #expect(try await site.ask("POST", "/v1/pipelines/chain/chunks?key=number%201:%20100%2525", json: #"{"tensors": {"values": [4]}}"#).status == 409)
            let bytes = Safetensors(tensors: try HashChain.rows([4, 5]).tensors).encode()
            let second = try await site.ask("POST", "/v1/pipelines/chain/chunks?wait=true", bytes: bytes)
            #expect(second.status == 200 && second.body["position"] == 2 && second.body["version"] == 1)
            #expect(try await site.ask("GET", "/v1/pipelines/chain/chunks/2?waitMs=1000").body["state"] == "absorbed")
            let listed = try await site.ask("GET", "/v1/pipelines/chain/chunks?limit=1").body
            #expect(listed["more"] == true && listed["chunks"]?.array?.first?["chunk"]?["key"] == "number 1: 100%25")
            let answer = try await site.ask("GET", "/v1/pipelines/chain/query/sum?atLeast=1")
            #expect(answer.status == 200 && answer.body["sum"] == 15 && answer.body["count"] == 5 && answer.body["version"] == 1 && answer.body["absorbedRows"] == 5)
            #expect(try await site.ask("GET", "/v1/pipelines/chain/posteriors").body["versions"]?.array?.count == 2)
            #expect(try await site.ask("GET", "/v1/pipelines/chain/posteriors/newest").body["absorbedChunks"] == 2)
            let expected = try Cluster.expected(HashChain.pipeline(), [[1, 2, 3], [4, 5]])
            #expect(try await cluster.bulk().getBlob(try await cluster.newest().hash) == expected)
            let status = try await site.ask("GET", "/v1/status").body
            #expect(status["pipelines"]?.array?.first?["version"] == 1)
            let metrics = String(decoding: try await site.ask("GET", "/metrics").bytes, as: UTF8.self)
            #expect(metrics.contains("accrue_rows{pipeline=\"chain\",state=\"absorbed\"} 5.0"))
            #expect(metrics.contains("accrue_http_requests_total{method=\"PUT\",route=\"/v1/pipelines/{name}\",status=\"200\"} 1.0"))
            #expect(try await site.ask("GET", "/v1/events").body["events"]?.array?.contains { $0["kind"] == "version" } == true)
            #expect(try await site.ask("DELETE", "/v1/pipelines/chain").status == 200)
            #expect(try await site.ask("GET", "/v1/pipelines/chain").status == 404)
        }
    }

    @Test("a chunk that fails while it is waited for is a conflict that names its position")
    func failing() async throws {
        try await withSite(method: HashChain(poison: 7)) { site, _ in
            #expect(try await site.ask("PUT", "/v1/pipelines/chain", json: Self.declaration).status == 200)
            let answer = try await site.ask("POST", "/v1/pipelines/chain/chunks?wait=true", json: #"{"tensors": {"values": [7]}}"#)
            #expect(answer.status == 409 && answer.body["error"]?["position"] == 1 && answer.body["error"]?["problem"]?.string?.contains("set aside") == true, "\(answer.body)")
        }
    }

    @Test("a file that comes in becomes a version")
    func imported() async throws {
        try await withSite { site, cluster in
            #expect(try await site.ask("PUT", "/v1/pipelines/chain", json: Self.declaration).status == 200)
            for wrong in ["", "{}", "a file of another kind, long enough for a header"] {
                let refused = try await site.ask("POST", "/v1/pipelines/chain/posteriors", bytes: Data(wrong.utf8))
                #expect(refused.status == 400 && refused.body["error"]?["problem"]?.string?.contains("not safetensors") == true, "\(refused.body)")
            }
            let file = Safetensors(tensors: ["x": TensorBytes([UInt8](repeating: 5, count: 3_000_000), shape: [3_000_000])]).encode()
            let imported = try await site.ask("POST", "/v1/pipelines/chain/posteriors?key=k", bytes: file)
            #expect(imported.status == 200 && imported.body["position"] == 1, "\(imported.body)")
            #expect(try await site.ask("GET", "/v1/pipelines/chain/chunks/1?waitMs=60000").body["version"] == 1)
            #expect(try await site.ask("GET", "/v1/pipelines/chain/posteriors/newest").body["version"] == 1)
        }
    }

    @Test("a body that is too large is refused before it is read, whatever it holds; one that is small and asks for much memory, for what is wrong with it")
    func large() async throws {
        try await withSite { site, _ in
            let wide = #"{"name": "wide", "method": "HashChain", "seed": 1, "schema": [{"name": "values", "role": "input", "dtype": "F64", "shape": [SIZE]}]}"#
            #expect(try await site.ask("PUT", "/v1/pipelines/wide", json: wide.replacing("SIZE", with: "33554432")).status == 200)
            let tooWide = try await site.ask("PUT", "/v1/pipelines/wide", json: wide.replacing("SIZE", with: "9000000000000000000, 9"))
            #expect(tooWide.status == 400 && tooWide.body["error"]?["problem"]?.string?.contains("would not fit a chunk") == true, "\(tooWide.body)")
            let flat = "{\"tensors\": {\"values\": [\(Array(repeating: "0", count: 500_000).joined(separator: ","))]}}"
            let answer = try await site.ask("POST", "/v1/pipelines/wide/chunks", json: flat)
            #expect(answer.status == 400 && answer.body["error"]?["problem"]?.string?.contains("33554432 values are needed") == true, "\(answer.body)")
            let large = try await site.ask("PUT", "/v1/pipelines/chain", json: String(repeating: " ", count: Limits.headerBytesMax + 1))
            #expect(large.status == 413 && large.body["error"]?["code"] == "limitExceeded")
        }
    }

    @Test("a chunk that was set aside is listed with the reason, and can be retried")
    func setAside() async throws {
        try await withSite { site, cluster in
            #expect(try await site.ask("PUT", "/v1/pipelines/chain", json: Self.declaration).status == 200)
            #expect(try await site.ask("POST", "/v1/pipelines/chain/chunks", json: #"{"tensors": {"values": [1]}}"#).body["position"] == 1)
            let aside = try await site.ask("POST", "/v1/pipelines/chain/chunks/set-aside", json: #"{"positions": [1], "reason": "not wanted"}"#)
            #expect(aside.status == 200, "\(aside.body)")
            let listed = try await site.ask("GET", "/v1/pipelines/chain/chunks?state=setAside").body["chunks"]?.array
            #expect(listed?.count == 1 && listed?.first?["reason"]?.string?.contains("not wanted") == true)
            let retried = try await site.ask("POST", "/v1/pipelines/chain/chunks/retry", json: #"{"positions": [1]}"#)
            #expect(retried.status == 200 && retried.body["positions"]?.array?.count == 1, "\(retried.body)")
            #expect(try await site.ask("POST", "/v1/pipelines/chain/flush").status == 200)
            let position = try #require(retried.body["positions"]?.array?.first?.int)
            #expect(try await site.ask("GET", "/v1/pipelines/chain/chunks/\(position)?waitMs=60000").body["version"] == 1)
        }
    }

    private static let wrong: [(method: String, path: String, body: String?, status: Int, code: String, problem: String)] = [
        ("GET", "/v1/nothing", nil, 404, "notFound", "nothing at this path"),
        ("GET", "/v1/events?aftr=1", nil, 400, "invalidInput", "'aftr'"),
        ("GET", "/v1/events?after=1&after=2", nil, 400, "invalidInput", "twice"),
        ("GET", "/v1/events?limit=0", nil, 400, "invalidInput", "from 1 to 1000"),
        ("GET", "/v1/pipelines/chian", nil, 404, "notFound", "no such pipeline"),
        ("GET", "/v1/pipelines/chain/posteriors/7", nil, 404, "notFound", "versions are 0 to 0"),
        ("GET", "/v1/pipelines/chain/posteriors/last", nil, 400, "invalidInput", "'version' is last"),
        ("GET", "/v1/pipelines/chain/chunks?state=gone", nil, 400, "invalidInput", "waiting, absorbed, setAside or forgotten"),
        ("POST", "/v1/pipelines/chain/chunks?wait=yes", "{}", 400, "invalidInput", "true or false"),
        ("POST", "/v1/pipelines/chain/chunks", #"{"tensors": {"values": ["x"]}}"#, 400, "invalidInput", "not a number"),
        ("POST", "/v1/pipelines/chain/chunks", #"{"rows": []}"#, 400, "invalidInput", "'rows'"),
        ("POST", "/v1/pipelines/chain/chunks", "{", 400, "invalidInput", "not a JSON value"),
        ("POST", "/v1/pipelines/chain/chunks/set-aside", #"{"positions": [1]}"#, 400, "invalidInput", "'reason' is missing"),
        ("POST", "/v1/pipelines/chain/chunks/retry", #"{"positions": ["1"]}"#, 400, "invalidInput", "no list of positions"),
        ("PUT", "/v1/pipelines/other", Self.declaration, 400, "invalidInput", "'chain'"),
        ("POST", "/v1/pipelines/chain/query/sum", #"{"header": 3}"#, 400, "invalidInput", "'header'"),
        ("DELETE", "/v1/status", nil, 405, "invalidInput", "takes GET"),
        ("PATCH", "/v1/pipelines/chain", "{}", 405, "invalidInput", "takes DELETE, GET, PUT"),
        ("PUT", "/v1/pipelines/chain/chunks/3", "{}", 405, "invalidInput", "takes GET"),
        ("GET", "/v1/pipelines/chain/query/sum?draws=0", nil, 400, "invalidInput", "from 1 to"),
    ]

    @Test("wrong input is answered with its status, the code and what is wrong, and changes nothing")
    func refused() async throws {
        try await withSite { site, _ in
            #expect(try await site.ask("PUT", "/v1/pipelines/chain", json: Self.declaration).status == 200)
            for wrong in Self.wrong {
                let answer = try await site.ask(wrong.method, wrong.path, json: wrong.body)
                let error = answer.body["error"]
                #expect(
                    answer.status == wrong.status && error?["code"]?.string == wrong.code && error?["problem"]?.string?.contains(wrong.problem) == true,
                    "\(wrong.method) \(wrong.path): \(answer.status) \(answer.body)")
            }
            #expect(try await site.ask("GET", "/v1/status").body["pipelines"]?.array?.first?["position"] == 0)
        }
    }

    @Test("a body that is neither JSON nor safetensors is refused, and says what may be sent")
    func garbage() async throws {
        try await withSite { site, _ in
            #expect(try await site.ask("PUT", "/v1/pipelines/chain", json: Self.declaration).status == 200)
            let answer = try await site.ask("POST", "/v1/pipelines/chain/chunks", bytes: Data("garbage".utf8))
            #expect(answer.status == 400 && answer.body["error"]?["hint"]?.string?.contains("application/json") == true)
        }
    }

    @Test("with a token nothing is answered without it, but whether the daemon lives")
    func token() async throws {
        let path = "/tmp/accrue-token-\(UUID().uuidString.prefix(8))"
        defer { try? FileManager.default.removeItem(atPath: path) }
        try SecretFile.write(Data("0123456789abcdef".utf8), to: path, replacing: false, while: "testing")
        try await withSite(tokenFile: path) { site, _ in
            let stranger = Site(url: site.url, token: nil)
            #expect(try await site.ask("GET", "/v1/status").status == 200)
            let refused = try await stranger.ask("GET", "/v1/status")
            #expect(refused.status == 401 && refused.body["error"]?["code"] == "unauthorised")
            #expect(try await stranger.ask("PUT", "/v1/pipelines/chain", json: Self.declaration).status == 401)
            #expect(try await site.ask("GET", "/v1/status").body["pipelines"]?.array?.isEmpty == true)
            #expect(try await stranger.ask("GET", "/healthz").status == 200)
        }
    }

    @Test("a page of another site is not served")
    func origin() async throws {
        try await withSite { site, _ in
            let stranger = try await site.ask("GET", "/v1/status", headers: ["Origin": "http://evil.example"])
            let own = try await site.ask("GET", "/v1/status", headers: ["Origin": site.url])
            #expect(stranger.status == 401 && own.status == 200)
        }
    }

    /// What a stream of events has told when it names one of a kind.
    private func told(_ site: Site, until kind: String, after last: Int? = nil) throws -> Task<String, Never> {
        var request = URLRequest(url: try #require(URL(string: site.url + "/v1/events/stream")))
        if let last { request.setValue("\(last)", forHTTPHeaderField: "Last-Event-ID") }
        return Task { [request] in
            let delegate = Lines()
            let session = URLSession(configuration: .ephemeral, delegate: delegate, delegateQueue: nil)
            session.dataTask(with: request).resume()
            defer { session.invalidateAndCancel() }
            for await text in delegate.texts where text.contains("\"kind\":\"\(kind)\"") { return text }
            return ""
        }
    }

    @Test("events are told as they happen, with their numbers; who comes back gets those after the last that it saw")
    func stream() async throws {
        try await withSite { site, cluster in
            let reading = try told(site, until: "applied")
            try await cluster.apply(HashChain.pipeline())
            let text = await reading.value
            #expect(text.contains("id: ") && text.contains("data: {") && text.contains("\"pipeline\":\"chain\""))
            let events = try #require(try await site.ask("GET", "/v1/events").body["events"]?.array)
            let again = try told(site, until: "deleted", after: try #require(events.last?["number"]?.int))
            #expect(try await site.ask("DELETE", "/v1/pipelines/chain").status == 200)
            let later = await again.value
            #expect(later.contains("\"pipeline\":\"chain\"") && !later.contains("applied"))
        }
    }

    /// What has come so far, each time that more comes.
    private final class Lines: NSObject, URLSessionDataDelegate, @unchecked Sendable {
        let texts: AsyncStream<String>
        private let text: AsyncStream<String>.Continuation
        private var sofar = ""

        override init() { (texts, text) = AsyncStream<String>.makeStream() }

        func urlSession(_ session: URLSession, dataTask: URLSessionDataTask, didReceive data: Data) {
            sofar += String(decoding: data, as: UTF8.self)
            text.yield(sofar)
        }

        func urlSession(_ session: URLSession, task: URLSessionTask, didCompleteWithError error: (any Error)?) { text.finish() }
    }

    @Test("an address that is taken is refused, naming it")
    func taken() async throws {
        try await withSite { site, cluster in
            let address = String(site.url.dropFirst("http://".count))
            let connection = try await ClusterConnection.open(cluster.control.endpoint)
            defer { connection.close() }
            let second = HTTPService(try HTTPSettings(address: address, tokenFile: nil), cluster: connection)
            await #expect { try await second.run { _ in } } throws: { ($0 as? AccrueError)?.code == .unavailable && "\($0)".contains(address) }
        }
    }
}
