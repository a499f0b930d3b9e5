import AccrueCoordinator
import AccrueCore
import AccrueWire
import Foundation
import Testing

@Suite("The keys of a home", .enabled(if: SocketLibrary.hasCurve, "this libzmq has no CURVE"))
final class KeyFolderTests {
    let home = "/tmp/accrue-k-\(UUID().uuidString.prefix(8))"
    var folder: KeyFolder { KeyFolder(home: home) }

    deinit { try? FileManager.default.removeItem(atPath: home) }

    private func mode(_ path: String) throws -> Int? {
        try FileManager.default.attributesOfItem(atPath: path)[.posixPermissions] as? Int
    }

    private func code(_ body: () throws(AccrueError) -> Void) -> AccrueError.Code? {
        do throws(AccrueError) {
            try body()
            return nil
        } catch { return error.code }
    }

    @Test("a home's own keys are made once, for its owner alone")
    func own() throws {
        let server = try folder.prepare()
        #expect(try folder.prepare() == server && folder.server().publicKey == server)
        let names = try FileManager.default.contentsOfDirectory(atPath: folder.path).sorted()
        #expect(names == ["authorised", "children.key", "lock", "owner.key", "server.key"])
        for name in names { #expect(try mode("\(folder.path)/\(name)") == 0o600, "\(name)") }
        #expect(try mode(folder.path) == 0o700 && mode(home) == 0o700)
        let keys = try folder.authorised()
        #expect(keys.map(\.name) == ["children", "owner"] && keys.map(\.role) == [.worker, .admin])
        #expect(try ClientKey(file: folder.file(of: "owner")).authorised == keys[1])
    }

    @Test("a key file has all that its holder needs; the home keeps its public half")
    func add() throws {
        let server = try folder.prepare(), path = "\(home)/bob.key"
        let made = try folder.add("bob", role: .producer, writingTo: path)
        #expect(try ClientKey(file: path) == made && made.serverKey == server && mode(path) == 0o600)
        #expect(try folder.authorised().contains(made.authorised))
        let kept = try FileManager.default.contentsOfDirectory(atPath: folder.path).map { try String(contentsOfFile: "\(folder.path)/\($0)", encoding: .utf8) }
        #expect(!kept.contains { $0.contains(made.pair.secretKey) })
    }

    @Test("what cannot be is refused with its code, and changes nothing")
    func refusals() throws {
        #expect(code { () throws(AccrueError) in _ = try self.folder.add("bob", role: .reader, writingTo: "\(self.home)/bob.key") } == .notFound)
        try folder.prepare()
        let before = try folder.authorised()
        for name in ["", "a b", "a\n", "../a", String(repeating: "x", count: 65)] {
            #expect(code { () throws(AccrueError) in _ = try self.folder.add(name, role: .reader, writingTo: "\(self.home)/x.key") } == .invalidInput, "\(name)")
        }
        #expect(code { () throws(AccrueError) in _ = try self.folder.add("owner", role: .reader, writingTo: "\(self.home)/x.key") } == .conflict)
        try Data().write(to: URL(fileURLWithPath: "\(home)/there"))
        #expect(code { () throws(AccrueError) in _ = try self.folder.add("bob", role: .reader, writingTo: "\(self.home)/there") } == .conflict)
        #expect(code { () throws(AccrueError) in _ = try self.folder.add("bob", role: .reader, writingTo: "\(self.home)/nowhere/x") } == .unavailable)
        #expect(code { () throws(AccrueError) in _ = try self.folder.revoke("ownr") } == .notFound)
        #expect(try folder.authorised() == before)
    }

    @Test("a daemon's own key that was revoked is made anew, another one is gone for good")
    func revoke() throws {
        try folder.prepare()
        let bob = try folder.add("bob", role: .reader, writingTo: "\(home)/bob.key"), owner = try ClientKey(file: folder.file(of: "owner"))
        for name in ["bob", "owner"] { #expect(try folder.revoke(name).name == name) }
        try folder.prepare()
        let keys = try folder.authorised().map(\.publicKey)
        #expect(!keys.contains(bob.pair.publicKey) && !keys.contains(owner.pair.publicKey))
        #expect(try keys.contains(ClientKey(file: folder.file(of: "owner")).pair.publicKey))
    }

    @Test("a secret that others could have read is not used, and a damaged list is an error that names the line")
    func damaged() throws {
        try folder.prepare()
        for name in ["server.key", "owner.key"] { try FileManager.default.setAttributes([.posixPermissions: 0o640], ofItemAtPath: "\(folder.path)/\(name)") }
        #expect(code { () throws(AccrueError) in _ = try self.folder.server() } == .unauthorised)
        #expect(code { () throws(AccrueError) in _ = try ClientKey(file: self.folder.file(of: "owner")) } == .unauthorised)
        let list = "# by hand\nreader bob \(try KeyPair.make().publicKey)\nreader  eve \(try KeyPair.make().publicKey)\n"
        try SecretFile.write(Data(list.utf8), to: folder.authorisedFile, replacing: true, while: "testing")
        do throws(AccrueError) {
            _ = try folder.authorised()
            Issue.record("a damaged line passed")
        } catch { #expect(error.code == .corrupt && error.problem.contains("line 3")) }
    }
}
