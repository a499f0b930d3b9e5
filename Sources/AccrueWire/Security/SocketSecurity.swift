import AccrueCore
import CZeroMQ

/// How a socket proves who it is, and asks others to.
public enum SocketSecurity: Equatable, Sendable {
    /// No encryption, and everybody who can connect may do everything: for ipc in a directory of the owner alone, and loopback.
    case plain
    /// A bound socket with CURVE; its loop must admit by a key ring, and a message whose sender that did not let in is refused.
    case curveServer(KeyPair)
    /// A connecting socket with CURVE.
    case curveClient(serverKey: PublicKey, KeyPair)

    /// What an endpoint asks of who connects there.
    /// - Throws: `unauthorised` when it asks for a key and there is none.
    static func toward(_ endpoint: KeyedEndpoint, as identity: KeyPair?) throws(AccrueError) -> SocketSecurity {
        guard let serverKey = endpoint.serverKey else { return .plain }
        guard let identity else {
            throw AccrueError(
                .unauthorised, while: "connecting to \(endpoint.address)", "only holders of a key are let in there",
                hint: "give a key file with --key-file or ACCRUE_KEY; an administrator makes it with 'accrue keys add'")
        }
        return .curveClient(serverKey: serverKey, identity)
    }

    /// A handshake takes this long at most. Who is not let in is not told: it tries again after this.
    private static let handshakeMs: Int32 = 2_000

    func apply(to socket: RawSocket) throws(AccrueError) {
        if self != .plain { socket.set(ZMQ_HANDSHAKE_IVL, Self.handshakeMs) }
        func key(_ option: Int32, _ value: String) throws(AccrueError) {
            guard socket.set(option, text: value) else {
                throw AccrueError(.unavailable, while: "setting up CURVE", "libzmq does not take the key", hint: "install a libzmq with CURVE; 'accrue doctor' looks at it")
            }
        }
        switch self {
        case .plain: break
        case .curveServer(let pair):
            socket.set(ZMQ_CURVE_SERVER, 1)
            socket.set(ZMQ_ZAP_DOMAIN, text: "accrue")
            try key(ZMQ_CURVE_SECRETKEY, pair.secretKey)
        case .curveClient(let serverKey, let pair):
            try key(ZMQ_CURVE_SERVERKEY, serverKey.text)
            try key(ZMQ_CURVE_PUBLICKEY, pair.publicKey.text)
            try key(ZMQ_CURVE_SECRETKEY, pair.secretKey)
        }
    }
}
