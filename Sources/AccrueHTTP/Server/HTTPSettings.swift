public import AccrueCore
import AccrueWire
import Foundation

/// Where HTTP is served, and to whom; checked.
public struct HTTPSettings: Sendable {
    public let host: String
    /// 0: any that is free.
    public let port: Int
    /// What requests must bear; nil: whoever reaches a loopback address may do everything.
    public let token: String?

    /// Characters that a token must have at least.
    public static let tokenCharactersMin = 16

    /// - Parameters:
    ///   - address: `HOST:PORT`, port `*` for any; an IPv6 address in brackets.
    ///   - tokenFile: a file that only its owner may read, with the token in its first line.
    /// - Throws: `invalidInput` for what is no address, for an address that others reach without a token, and for a token that is too short; what reading
    ///   the file throws.
    public init(address: String, tokenFile: String?) throws(AccrueError) {
        let operation = "starting HTTP at \(address)"
        let colon = address.lastIndex(of: ":")
        let host = colon.map { String(address[..<$0]) } ?? "", port = colon.map { address[address.index(after: $0)...] } ?? ""
        guard !host.isEmpty, !host.contains("/"), port == "*" || (1...65_535).contains(Int(port) ?? 0) else {
            throw AccrueError(.invalidInput, while: operation, "'\(address)' is not HOST:PORT", hint: "for example --http 127.0.0.1:7780")
        }
        self.host = host.hasPrefix("[") && host.hasSuffix("]") ? String(host.dropFirst().dropLast()) : host
        self.port = Int(port) ?? 0
        if let tokenFile {
            let bytes = try SecretFile.read(tokenFile, while: operation)
            let line = String(decoding: bytes, as: UTF8.self).split(whereSeparator: \.isNewline).first.map(String.init) ?? ""
            guard line.count >= Self.tokenCharactersMin, line.utf8.allSatisfy({ (33...126).contains($0) }) else {
                throw AccrueError(
                    .invalidInput, while: operation, "the first line of \(tokenFile) is no token of at least \(Self.tokenCharactersMin) characters without blanks",
                    hint: Self.tokenHint)
            }
            token = line
        } else {
            token = nil
            guard KeyedEndpoint.isLoopback(host.lowercased()) else {
                throw AccrueError(
                    .invalidInput, while: operation, "others than this machine's users reach \(host), and there is no token for them",
                    hint: "\(Self.tokenHint), and name it with --http-token-file; or listen on 127.0.0.1")
            }
        }
    }

    private static let tokenHint = "make one: (umask 077; head -c 32 /dev/urandom | base64 > FILE)"
}
