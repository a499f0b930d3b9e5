public import AccrueCore

/// An endpoint and, where one must know it to connect, the public key of who listens there: `tcp://HOST:PORT?key=Z85`.
public struct KeyedEndpoint: Equatable, Sendable, CustomStringConvertible {
    /// As libzmq takes it.
    public var address: String
    /// Nil: the socket there is plain.
    public var serverKey: PublicKey?

    private static let mark = "?key="

    public init(_ address: String, serverKey: PublicKey?) {
        self.address = address
        self.serverKey = serverKey
    }

    /// - Throws: `invalidInput` for a tcp endpoint with something behind the port that is not a key: libzmq would not mind, and connect without one.
    public init(parsing text: String) throws(AccrueError) {
        address = Self.address(of: text)
        guard address.utf8.count < text.utf8.count else { return }
        let rest = text.dropFirst(address.count)
        guard rest.hasPrefix(Self.mark), let key = PublicKey(String(rest.dropFirst(Self.mark.count))) else {
            throw AccrueError(
                .invalidInput, while: "reading endpoint '\(text)'", "behind '\(address)' stands no key", hint: "endpoints look like tcp://HOST:PORT\(Self.mark)Z85, with 40 characters of Z85")
        }
        serverKey = key
    }

    /// The endpoint without its key, for people.
    public static func address(of text: String) -> String {
        guard text.hasPrefix("tcp://"), let mark = text.firstIndex(of: "?") else { return text }
        return String(text[..<mark])
    }

    /// Whether only this machine's processes can reach it: an ipc socket, or a loopback address.
    public static func isLocal(_ text: String) -> Bool {
        guard text.hasPrefix("tcp://") else { return text.hasPrefix("ipc://") }
        let address = address(of: text).dropFirst("tcp://".count)
        let host = address[..<(address.lastIndex(of: ":") ?? address.endIndex)]
        return isLoopback(host)
    }

    /// Whether this is a name or address by which a machine reaches itself; an IPv6 address in brackets.
    public static func isLoopback(_ host: some StringProtocol) -> Bool {
        host == "localhost" || host == "[::1]" || (host.hasPrefix("127.") && host.allSatisfy { $0.isASCII && ($0.isNumber || $0 == ".") })
    }

    public var description: String { address + (serverKey.map { Self.mark + $0.text } ?? "") }
}
