import AccrueCore
import CZeroMQ

/// How a socket proves who it is. Keys are Z85 text of 40 characters, as libzmq's `curve_keygen` writes them.
public enum SocketSecurity: Equatable, Sendable {
    /// No encryption: for ipc in a directory of the owner alone, and loopback.
    case plain
    /// A bound socket with CURVE. Without a ZAP handler libzmq accepts every client key.
    case curveServer(secretKey: String)
    /// A connecting socket with CURVE.
    case curveClient(serverKey: String, publicKey: String, secretKey: String)

    func apply(to socket: RawSocket) throws(AccrueError) {
        func key(_ option: Int32, _ value: String, _ name: String) throws(AccrueError) {
            guard value.utf8.count == 40, socket.set(option, text: value) else {
                throw AccrueError(
                    .invalidInput, while: "setting up CURVE", "the \(name) is not a Z85 key of 40 characters",
                    hint: "make keys with 'accrue keys'; libzmq must have CURVE")
            }
        }
        switch self {
        case .plain: break
        case .curveServer(let secretKey):
            socket.set(ZMQ_CURVE_SERVER, 1)
            socket.set(ZMQ_ZAP_DOMAIN, text: "accrue")
            try key(ZMQ_CURVE_SECRETKEY, secretKey, "server's secret key")
        case .curveClient(let serverKey, let publicKey, let secretKey):
            try key(ZMQ_CURVE_SERVERKEY, serverKey, "server's public key")
            try key(ZMQ_CURVE_PUBLICKEY, publicKey, "public key")
            try key(ZMQ_CURVE_SECRETKEY, secretKey, "secret key")
        }
    }
}
