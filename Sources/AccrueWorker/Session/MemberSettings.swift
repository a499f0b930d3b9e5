public import AccrueCore
public import AccrueWire
import Foundation

/// How a worker or a querier is started: where the coordinator is, where it stands itself, how others reach it, and who it is.
public struct MemberSettings: Sendable {
    /// The coordinator's control endpoint.
    public let coordinator: String
    /// Its own directory: lock, name, a worker's spool.
    public let home: String
    /// Unique in the cluster and stable over restarts.
    public let name: String
    /// Where pushes and fetches, or queries, arrive.
    public let listen: String
    /// How others reach it, when that differs; `tcp://host:*` takes the bound port.
    public let advertise: String?
    /// Who it is; with a key it listens on TCP with CURVE, and lets in whom the coordinator lets in.
    public let key: ClientKey?
    /// After this long without an answer the coordinator counts this process as dead.
    public var silenceMs = 3_000
    /// How long a querier lets a query wait for others that ask the same of other rows, to answer them in one pass; 0: those alone that wait anyway.
    public var queryWindowMs = 0

    /// A worker's.
    /// - Parameters:
    ///   - name: nil: the one that this home had before, else a new random one.
    ///   - listen: nil: a socket in the home.
    ///   - isInsecure: whether it may listen without a key where other machines reach it.
    /// - Throws: `invalidInput` for a name that cannot be part of a file's name, a wildcard address without `advertise`, or one that is not safe to
    ///   offer; `unavailable` when the home cannot be written.
    public static func worker(
        coordinator: String, home: String, name: String? = nil, listen: String? = nil, advertise: String? = nil, key: ClientKey? = nil, isInsecure: Bool = false
    ) throws(AccrueError) -> MemberSettings {
        let home = absolute(home), name = try self.name(name, ofHome: home)
        return try MemberSettings(
            "worker '\(name)'", coordinator, home, name, listen ?? "ipc://\(home)/run/ingest-\(name).sock", advertise, key, isInsecure: isInsecure)
    }

    /// A querier's; as a worker's, but without a name of its home's.
    public static func querier(
        coordinator: String, home: String, name: String? = nil, listen: String? = nil, advertise: String? = nil, key: ClientKey? = nil, isInsecure: Bool = false
    ) throws(AccrueError) -> MemberSettings {
        let home = absolute(home), name = name ?? "querier"
        return try MemberSettings("querier '\(name)'", coordinator, home, name, listen ?? "ipc://\(home)/run/query.sock", advertise, key, isInsecure: isInsecure)
    }

    private init(
        _ who: String, _ coordinator: String, _ home: String, _ name: String, _ listen: String, _ advertise: String?, _ key: ClientKey?, isInsecure: Bool
    ) throws(AccrueError) {
        let operation = "starting \(who)"
        let allowed = name.utf8.allSatisfy { (48...57).contains($0) || (65...90).contains($0) || (97...122).contains($0) || $0 == 45 || $0 == 46 || $0 == 95 }
        guard allowed, (1...64).contains(name.utf8.count), !name.hasPrefix(".") else {
            throw AccrueError(.invalidInput, while: operation, "the name '\(name)' is not 1 to 64 of letters, digits, '-', '_' and '.'", hint: "for example --name worker-0")
        }
        if advertise == nil, ["tcp://*", "tcp://0.0.0.0", "tcp://[::]"].contains(where: listen.hasPrefix) {
            throw AccrueError(
                .invalidInput, while: operation, "others cannot reach it at \(listen)",
                hint: "say --advertise tcp://HOST:* with a name or address of this machine that the others know")
        }
        guard key != nil || isInsecure || KeyedEndpoint.isLocal(listen) else {
            throw AccrueError(
                .invalidInput, while: operation, "\(listen) can be reached from other machines, and without a key nothing would be encrypted or authenticated",
                hint: "give a key of role worker with --key-file, or say --insecure if everyone who can reach the address may do everything")
        }
        self.coordinator = coordinator
        self.home = home
        self.name = name
        self.listen = listen
        self.advertise = advertise
        self.key = key
    }

    /// The endpoint to tell others, given the one that was bound.
    func advertised(bound: String) -> String {
        guard let advertise, let endpoint = try? KeyedEndpoint(parsing: bound) else { return bound }
        guard advertise.hasSuffix(":*"), let port = endpoint.address.split(separator: ":").last else {
            return KeyedEndpoint(advertise, serverKey: endpoint.serverKey).description
        }
        return KeyedEndpoint(String(advertise.dropLast()) + String(port), serverKey: endpoint.serverKey).description
    }

    /// Makes the directory of the socket that it listens at, for its owner alone.
    func prepareSocket() throws(AccrueError) {
        guard listen.hasPrefix("ipc://") else { return }
        let folder = (String(listen.dropFirst(6)) as NSString).deletingLastPathComponent
        do { try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700]) } catch {
            throw AccrueError(.unavailable, while: "opening \(listen)", error.reason, hint: "choose a home that can be written")
        }
    }

    /// Others are told endpoints under it, and they may stand in another directory.
    private static func absolute(_ home: String) -> String { URL(fileURLWithPath: home).standardizedFileURL.path }

    private static func name(_ given: String?, ofHome home: String) throws(AccrueError) -> String {
        if let given { return given }
        let path = "\(home)/name"
        if let name = try? String(contentsOfFile: path, encoding: .utf8).trimmingCharacters(in: .whitespacesAndNewlines), !name.isEmpty { return name }
        let name = "worker-\(UUID().uuidString.prefix(8).lowercased())"
        do {
            try FileManager.default.createDirectory(atPath: home, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
            try name.write(toFile: path, atomically: true, encoding: .utf8)
        } catch {
            throw AccrueError(.unavailable, while: "writing \(path)", error.reason, hint: "choose a home that can be written")
        }
        return name
    }
}
