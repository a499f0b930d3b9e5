public import AccrueCore
public import AccrueWire
import Foundation

/// How a worker is started.
public struct WorkerSettings: Sendable {
    /// The coordinator's control endpoint.
    public var coordinator: String
    /// The worker's own directory: spool, lock, name.
    public var home: String
    /// Unique in the cluster and stable over restarts.
    public var name: String
    /// Where pushes and fetches arrive.
    public var listen: String
    /// How others reach it, when that differs; `tcp://host:*` takes the bound port.
    public var advertise: String?
    /// Who it is; with a key it listens on TCP with CURVE, and lets in whom the coordinator lets in.
    public var key: ClientKey?
    public var segmentBytesMax = 64 << 20

    /// - Parameters:
    ///   - name: nil: the one that this home had before, else a new random one.
    ///   - listen: nil: a socket in the home.
    ///   - isInsecure: whether it may listen without a key where other machines reach it.
    /// - Throws: `invalidInput` for a name that cannot be part of a file's name, a wildcard address without `advertise`, or one that is not safe to
    ///   offer; `unavailable` when the home cannot be written.
    public init(
        coordinator: String, home: String, name given: String? = nil, listen: String? = nil, advertise: String? = nil, key: ClientKey? = nil, isInsecure: Bool = false
    ) throws(AccrueError) {
        // Others are told endpoints under it, and they may stand in another directory.
        let home = URL(fileURLWithPath: home).standardizedFileURL.path
        self.coordinator = coordinator
        self.home = home
        self.advertise = advertise
        self.key = key
        let name: String
        if let given { name = given } else { name = try Self.ownName(home) }
        try Self.check(name: name)
        self.name = name
        self.listen = listen ?? "ipc://\(home)/run/ingest-\(name).sock"
        if advertise == nil, ["tcp://*", "tcp://0.0.0.0", "tcp://[::]"].contains(where: self.listen.hasPrefix) {
            throw AccrueError(
                .invalidInput, while: "starting worker '\(name)'", "others cannot reach a worker at \(self.listen)",
                hint: "say --advertise tcp://HOST:* with a name or address of this machine that the others know")
        }
        if key == nil, !isInsecure { try Self.checkIsLocal(self.listen, while: "starting worker '\(name)'") }
    }

    /// - Throws: `invalidInput` for an endpoint that is not safe without CURVE.
    static func checkIsLocal(_ listen: String, while operation: String) throws(AccrueError) {
        guard !KeyedEndpoint.isLocal(listen) else { return }
        throw AccrueError(
            .invalidInput, while: operation, "\(listen) can be reached from other machines, and without a key nothing would be encrypted or authenticated",
            hint: "give a key of role worker with --key-file, or say --insecure if everyone who can reach the address may do everything")
    }

    /// The endpoint to tell others, given the one that was bound.
    static func advertised(_ advertise: String?, bound: String) -> String {
        guard let advertise, let endpoint = try? KeyedEndpoint(parsing: bound) else { return bound }
        guard advertise.hasSuffix(":*"), let port = endpoint.address.split(separator: ":").last else {
            return KeyedEndpoint(advertise, serverKey: endpoint.serverKey).description
        }
        return KeyedEndpoint(String(advertise.dropLast()) + String(port), serverKey: endpoint.serverKey).description
    }

    static func check(name: String) throws(AccrueError) {
        let allowed = name.utf8.allSatisfy { (48...57).contains($0) || (65...90).contains($0) || (97...122).contains($0) || $0 == 45 || $0 == 46 || $0 == 95 }
        guard allowed, (1...64).contains(name.utf8.count), !name.hasPrefix(".") else {
            throw AccrueError(
                .invalidInput, while: "starting a worker", "the name '\(name)' is not 1 to 64 of letters, digits, '-', '_' and '.'", hint: "for example --name worker-0")
        }
    }

    /// Makes the directory of an ipc endpoint, for its owner alone.
    static func prepare(_ endpoint: String) throws(AccrueError) {
        guard endpoint.hasPrefix("ipc://") else { return }
        let folder = (String(endpoint.dropFirst(6)) as NSString).deletingLastPathComponent
        do { try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700]) } catch {
            throw AccrueError(.unavailable, while: "opening \(endpoint)", "\(error)", hint: "choose a home that can be written")
        }
    }

    private static func ownName(_ home: String) throws(AccrueError) -> String {
        let path = "\(home)/name"
        if let name = try? String(contentsOfFile: path, encoding: .utf8).trimmingCharacters(in: .whitespacesAndNewlines), !name.isEmpty { return name }
        let name = "worker-\(UUID().uuidString.prefix(8).lowercased())"
        do {
            try FileManager.default.createDirectory(atPath: home, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
            try name.write(toFile: path, atomically: true, encoding: .utf8)
        } catch {
            throw AccrueError(.unavailable, while: "writing \(path)", "\(error)", hint: "choose a home that can be written")
        }
        return name
    }
}
