import AccrueCore
import AccrueWire
import Testing

/// Keys as text, and what their roles allow.
@Suite("Keys", .enabled(if: SocketLibrary.hasCurve, "this libzmq has no CURVE"))
struct KeyTests {
    /// Every request, and who may make it; as ops/PROTOCOL.md lists them.
    static let table: [(Verb, [KeyRole])] = [
        (.status, [.producer, .worker, .reader, .admin]), (.pipelines, [.producer, .worker, .reader, .admin]),
        (.pipelineList, [.producer, .worker, .reader, .admin]), (.pipelineShow, [.producer, .worker, .reader, .admin]),
        (.push, [.producer, .admin]), (.flush, [.producer, .admin]), (.await, [.producer, .reader, .admin]), (.chunksList, [.producer, .reader, .admin]),
        (.query, [.reader, .admin]), (.events, [.reader, .admin]), (.posteriorList, [.worker, .reader, .admin]), (.posteriorShow, [.worker, .reader, .admin]),
        (.blobGet, [.worker, .reader, .admin]), (.heartbeat, [.worker, .admin]), (.inventory, [.worker, .admin]), (.announce, [.worker, .admin]),
        (.ready, [.worker, .admin]), (.done, [.worker, .admin]), (.failed, [.worker, .admin]), (.keys, [.worker, .admin]), (.blobPut, [.worker, .admin]),
        (.fetch, [.worker, .admin]), (.replicate, [.worker, .admin]), (.pipelineApply, [.admin]), (.pipelineDelete, [.admin]), (.pipelineResume, [.admin]), (.chunksRetry, [.admin]),
        (.chunksSetAside, [.admin]), (.posteriorImport, [.admin]),
    ]

    @Test("each role may do what the table says and nothing else")
    func roles() {
        for (verb, allowed) in Self.table { #expect(KeyRole.allCases.filter { $0.allows(Message(verb)) } == allowed, "\(verb)") }
        // Hello follows below; the others are never asked.
        #expect(Set(Self.table.map(\.0)) == Set(Verb.allCases).subtracting([.hello, .reply, .refuse, .lease, .cancel, .drop, .hint]))
    }

    @Test("only workers and administrators may say hello as a worker or a querier")
    func hello() throws {
        for role in [Role.worker, .querier] {
            let message = try Message(.hello, encoding: Hello(role: role, name: "w", boot: "b", endpoint: "e"))
            #expect(KeyRole.allCases.filter { $0.allows(message) } == [.worker, .admin])
        }
        let client = try Message(.hello, encoding: Hello(role: .client))
        #expect(KeyRole.allCases.allSatisfy { $0.allows(client) })
        // Nothing that is not plainly a client passes for one.
        for role: JSONValue in [.null, "Client", 1, ["client"]] { #expect(!KeyRole.producer.allows(Message(.hello, ["role": role]))) }
    }

    @Test("a key is 40 characters of Z85 and nothing else")
    func text() throws {
        let pair = try KeyPair.make()
        #expect(PublicKey(pair.publicKey.text) == pair.publicKey && pair.publicKey.text != pair.secretKey)
        for text in ["", "short", pair.publicKey.text + "00000", String(repeating: "\"", count: 40), String(repeating: "é", count: 20), String(repeating: "#", count: 40)] {
            #expect(PublicKey(text) == nil, "\(text)")
        }
        #expect(!"\(pair)".contains(pair.secretKey))
    }

    @Test("an endpoint carries the key of who listens; a key that is not one is an error, never a connection without")
    func endpoints() throws {
        let key = try KeyPair.make().publicKey
        let endpoint = KeyedEndpoint("tcp://10.0.0.1:7700", serverKey: key)
        #expect(try KeyedEndpoint(parsing: "\(endpoint)") == endpoint && KeyedEndpoint.address(of: "\(endpoint)") == "tcp://10.0.0.1:7700")
        #expect(try KeyedEndpoint(parsing: "tcp://10.0.0.1:7700").serverKey == nil)
        #expect(try KeyedEndpoint(parsing: "ipc:///a?key=b") == KeyedEndpoint("ipc:///a?key=b", serverKey: nil))
        for text in ["tcp://10.0.0.1:7700?key=", "tcp://10.0.0.1:7700?\(key)", "tcp://10.0.0.1:7700?key=\(key)x"] {
            #expect(throws: AccrueError.self, "\(text)") { try KeyedEndpoint(parsing: text) }
        }
    }

    @Test("the ring's hash follows its keys, not their order")
    func ring() throws {
        let keys = try ["a", "b"].map { AuthorisedKey(name: $0, role: .reader, publicKey: try KeyPair.make().publicKey) }
        let ring = KeyRing(keys)
        #expect(ring.hash == AuthorisedKey.hash(of: keys.reversed()) && ring[keys[1].publicKey] == keys[1])
        ring.replace([keys[0]])
        #expect(ring.hash != AuthorisedKey.hash(of: keys) && ring[keys[1].publicKey] == nil)
    }
}
