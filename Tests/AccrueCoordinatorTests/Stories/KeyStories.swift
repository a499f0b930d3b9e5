import AccrueCore
import AccrueTesting
import AccrueWire
import Testing

@testable import AccrueCoordinator

@Suite("Stories of keys", .enabled(if: SocketLibrary.hasCurve, "this libzmq has no CURVE"))
struct KeyStories {
    let keys: [AuthorisedKey]

    init() throws { keys = try ["one", "two"].map { AuthorisedKey(name: $0, role: .worker, publicKey: try KeyPair.make().publicKey) } }

    private static func hello(_ name: String, boot: String = "1", at endpoint: String = "elsewhere") -> Hello {
        Hello(role: .worker, name: name, boot: boot, endpoint: endpoint)
    }

    @Test("a worker's name is the key's under which it joined, while that key is authorised")
    func names() throws {
        var scene = Scene()
        let one = keys[0].publicKey, two = keys[1].publicKey
        scene.authorise(keys)
        #expect(try scene.refused(.hello, Self.hello("a"), from: "x", key: one) == nil)
        #expect(try scene.refused(.hello, Self.hello("a", boot: "2"), from: "y", key: two) == .unauthorised)
        // Not even the owner's: that one is asked for a name of its own.
        #expect(try scene.refused(.hello, Self.hello("a", boot: "2"), from: "z") == .unauthorised)
        #expect(try scene.refused(.hello, Self.hello("a", boot: "3"), from: "new", key: one) == nil)
        scene.authorise([keys[1]])
        #expect(try scene.refused(.hello, Self.hello("a", boot: "4"), from: "y", key: two) == nil)
    }

    @Test("nobody else's message is taken for a worker's, wherever it comes from")
    func messages() throws {
        var scene = Scene()
        scene.authorise(keys)
        try scene.say(.hello, Self.hello("a"), from: "x", key: keys[0].publicKey)
        #expect(try scene.refused(.heartbeat, Heartbeat(worker: "a"), from: "x", key: keys[0].publicKey) == nil)
        #expect(try scene.refused(.heartbeat, Heartbeat(worker: "a"), from: "x", key: keys[1].publicKey) == .notFound)
        #expect(try scene.refused(.heartbeat, Heartbeat(worker: "a"), from: "x") == .notFound)
    }

    @Test("a worker whose key is revoked is given up at once, its lease goes to another, and that counts against nothing")
    func revoked() throws {
        var scene = Scene()
        scene.authorise(keys)
        for (name, key) in zip(["a", "b"], keys) { try scene.say(.hello, Self.hello(name), from: name, key: key.publicKey) }
        try scene.say(.ready, Ready(worker: "a"), from: "a", key: keys[0].publicKey)
        try scene.say(.pipelineApply, Apply(declaration: HashChain.pipeline()))
        let lease = try #require(scene.lease("a")).identity
        try scene.say(.ready, Ready(worker: "b"), from: "b", key: keys[1].publicKey)
        #expect(scene.lease("b") == nil)
        scene.authorise([keys[1]])
        #expect(scene.lease("b")?.identity == lease)
        let alive = try scene.ask(.status, [String: String](), as: ClusterStatus.self).workers.filter(\.alive).map(\.name)
        #expect(alive == ["b"])
        #expect(try scene.refused(.heartbeat, Heartbeat(worker: "a"), from: "a", key: keys[0].publicKey) == .notFound)
    }

    @Test("heartbeats tell when the keys are others, and 'keys' tells which; without CURVE there are none")
    func listing() throws {
        var scene = Scene()
        try scene.join("a")
        #expect(try scene.ask(.heartbeat, Heartbeat(worker: "a"), as: HeartbeatReply.self, from: "a").keys == nil)
        scene.authorise(keys)
        let listing = try scene.ask(.keys, [String: String](), as: KeyListing.self)
        #expect(listing.keys == keys)
        #expect(try scene.ask(.heartbeat, Heartbeat(worker: "a"), as: HeartbeatReply.self, from: "a").keys == listing.hash)
    }

    @Test("holders of keys are not sent to a TCP socket that asks for none")
    func plain() throws {
        var scene = Scene()
        scene.authorise(keys)
        let key = keys[0].publicKey
        #expect(try scene.refused(.hello, Self.hello("a", at: "tcp://10.0.0.1:7"), from: "a", key: key) == .invalidInput)
        #expect(try scene.refused(.hello, Self.hello("a", at: "\(KeyedEndpoint("tcp://10.0.0.1:7", serverKey: key))"), from: "a", key: key) == nil)
    }
}
