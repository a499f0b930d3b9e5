public import AccrueCore
public import AccrueWire
import Foundation
import Glibc

/// The keys of a daemon, under its home: who it is, whom it lets in, and the keys of its own processes.
///
/// `server.key` is the pair of the coordinator's sockets; `authorised` says which public keys may do what, one a line: role, name, key;
/// `owner.key` (admin) is what the home's owner connects with, `children.key` (worker) what the workers and the querier of `serve` do.
public struct KeyFolder: Sendable {
    public static let ownerName = "owner", childrenName = "children"

    public let path: String

    public init(home: String) { path = "\(home)/keys" }

    public var authorisedFile: String { "\(path)/authorised" }
    var serverFile: String { "\(path)/server.key" }
    /// The key file of one of the daemon's own.
    public func file(of name: String) -> String { "\(path)/\(name).key" }

    /// The owner's key, for those who may read it: whoever may use the home's sockets may.
    /// - Throws: `unauthorised` when others could have read it, `corrupt` when it is not a key file.
    public func ownerKey() throws(AccrueError) -> ClientKey? {
        let path = file(of: Self.ownerName)
        return FileManager.default.isReadableFile(atPath: path) ? try ClientKey(file: path) : nil
    }

    /// Makes what is missing.
    /// - Returns: the public key of the coordinator's sockets.
    /// - Throws: `unavailable` when the home cannot be written or libzmq has no CURVE; as `server` and `authorised` do.
    @discardableResult
    public func prepare() throws(AccrueError) -> PublicKey {
        let lock = try locked()
        defer { withExtendedLifetime(lock) {} }
        if !FileManager.default.fileExists(atPath: serverFile) { try makeServer() }
        let server = try server()
        var keys = FileManager.default.fileExists(atPath: authorisedFile) ? try authorised() : []
        for (name, role) in [(Self.ownerName, KeyRole.admin), (Self.childrenName, .worker)] {
            let old = try? ClientKey(file: file(of: name))
            if let old, old.serverKey == server.publicKey, keys.contains(old.authorised) { continue }
            let key = ClientKey(name: name, role: role, serverKey: server.publicKey, pair: try KeyPair.make())
            try key.write(to: file(of: name), replacing: true)
            keys.removeAll { $0.name == name }
            keys.append(key.authorised)
        }
        try write(keys)
        return server.publicKey
    }

    /// The pair of the coordinator's sockets.
    /// - Throws: `notFound` when there is none yet, `unauthorised` when others could have read it, `corrupt` when it is not a pair.
    public func server() throws(AccrueError) -> KeyPair {
        let operation = "reading the server key \(serverFile)"
        guard FileManager.default.fileExists(atPath: serverFile) else {
            throw AccrueError(.notFound, while: operation, "this home has no keys yet", hint: "make them with 'accrue keys init'")
        }
        let bytes = try SecretFile.read(serverFile, while: operation)
        guard let value = try? JSONValue(parsing: bytes), let own = value["publicKey"]?.string, let secret = value["secretKey"]?.string else {
            throw AccrueError(.corrupt, while: operation, "it is not a key file", hint: "restore it from a backup; with another one all clients need new key files")
        }
        return try KeyPair(publicKey: own, secretKey: secret, while: operation)
    }

    /// The keys that may connect.
    /// - Throws: `notFound` when there is no list, `corrupt` naming a line that cannot be read.
    public func authorised() throws(AccrueError) -> [AuthorisedKey] {
        let read = try lines()
        if let problem = read.problems.first {
            throw AccrueError(.corrupt, while: "reading \(authorisedFile)", problem, hint: "a line is: role, name, public key; take the line out, or restore the file")
        }
        return read.keys
    }

    /// The keys that may connect, and what is wrong with the other lines: those let nobody in.
    func lines() throws(AccrueError) -> (keys: [AuthorisedKey], problems: [String]) {
        let text = String(decoding: try SecretFile.read(authorisedFile, while: "reading \(authorisedFile)"), as: UTF8.self)
        var keys: [AuthorisedKey] = [], problems: [String] = []
        for (number, line) in text.split(separator: "\n", omittingEmptySubsequences: false).enumerated() where !line.isEmpty && !line.hasPrefix("# ") {
            let words = line.split(separator: " ", omittingEmptySubsequences: false).map(String.init)
            if words.count == 3, keys.count < Limits.authorisedKeysMax, let role = KeyRole(rawValue: words[0]), Self.isName(words[1]), let key = PublicKey(words[2]) {
                keys.append(AuthorisedKey(name: words[1], role: role, publicKey: key))
            } else {
                problems.append("line \(number + 1) is not a role, a name and a public key, or one too many")
            }
        }
        return (keys, problems)
    }

    /// Makes a key for somebody, and lets it in.
    /// - Parameter path: where the file to hand out goes; this folder keeps its public half only.
    /// - Throws: `invalidInput` for a name that is not one, `conflict` when there is such a key or such a file, `notFound` before `prepare`.
    public func add(_ name: String, role: KeyRole, writingTo path: String) throws(AccrueError) -> ClientKey {
        let operation = "adding key '\(name)'"
        guard Self.isName(name) else {
            throw AccrueError(.invalidInput, while: operation, "the name is not 1 to 64 of letters, digits, '-', '_' and '.'", hint: "for example 'accrue keys add line-3 --role producer'")
        }
        let server = try server()
        let lock = try locked()
        defer { withExtendedLifetime(lock) {} }
        let keys = try authorised()
        guard !keys.contains(where: { $0.name == name }) else {
            throw AccrueError(.conflict, while: operation, "there is a key of this name already", hint: "choose another name, or revoke that one first")
        }
        guard keys.count < Limits.authorisedKeysMax else {
            throw AccrueError(.limitExceeded, while: operation, "\(keys.count) keys are authorised; at most \(Limits.authorisedKeysMax) may be", hint: "revoke keys that nobody uses")
        }
        let key = ClientKey(name: name, role: role, serverKey: server.publicKey, pair: try KeyPair.make())
        try key.write(to: path)
        try write(keys + [key.authorised])
        return key
    }

    /// Lets a key in no more.
    /// - Throws: `notFound` when there is no key of this name.
    public func revoke(_ name: String) throws(AccrueError) -> AuthorisedKey {
        let operation = "revoking key '\(name)'"
        _ = try server()
        let lock = try locked()
        defer { withExtendedLifetime(lock) {} }
        let keys = try authorised()
        guard let key = keys.first(where: { $0.name == name }) else {
            let close = StrictKeys.nearest(to: name, in: keys.map(\.name)).map { "did you mean '\($0)'? " } ?? ""
            throw AccrueError(.notFound, while: operation, "there is no key of this name", hint: "\(close)see 'accrue keys list'")
        }
        try write(keys.filter { $0.name != name })
        return key
    }

    private func makeServer() throws(AccrueError) {
        let pair = try KeyPair.make()
        let value = JSONValue.object(["publicKey": .string(pair.publicKey.text), "secretKey": .string(pair.secretKey)])
        try SecretFile.write(Data((value.canonical + "\n").utf8), to: serverFile, replacing: false, while: "making the server key")
    }

    private func write(_ keys: [AuthorisedKey]) throws(AccrueError) {
        let lines = keys.sorted { $0.name < $1.name }.map { "\($0.role.rawValue) \($0.name) \($0.publicKey)\n" }
        try SecretFile.write(Data(lines.joined().utf8), to: authorisedFile, replacing: true, while: "writing \(authorisedFile)")
    }

    /// Of two who change the list at once one is refused, and none is lost.
    private func locked() throws(AccrueError) -> HomeLock { try HomeLock(home: path) }

    private static func isName(_ name: String) -> Bool {
        (1...64).contains(name.utf8.count) && name.utf8.allSatisfy { (48...57).contains($0) || (65...90).contains($0) || (97...122).contains($0) || $0 == 45 || $0 == 46 || $0 == 95 }
    }
}
