import AccrueCore
import AccrueWire

/// What a worker's or querier's key makes of its sockets: who it is to the coordinator, and, where it listens on TCP, whom it lets in.
///
/// Its listening socket has a key pair of its own, made anew at each start, whose public half travels with the endpoint: no secret of the cluster leaves the
/// coordinator. Whom to let in the coordinator says; until it has, nobody is.
struct Membership: Sendable {
    let loop: SocketLoop
    let coordinator: String
    /// Whom the listening socket lets in; nil where it asks for no key.
    let ring: KeyRing?
    let security: SocketSecurity

    /// - Throws: `invalidInput` for a malformed endpoint; `unavailable` when this libzmq has no CURVE.
    init(coordinator: String, listen: String, key: ClientKey?) throws(AccrueError) {
        if key != nil, listen.hasPrefix("tcp://") {
            ring = KeyRing()
            security = .curveServer(try KeyPair.make())
        } else {
            ring = nil
            security = .plain
        }
        self.coordinator = try key?.endpoint(coordinator) ?? coordinator
        loop = try SocketLoop(as: key?.pair, admitting: ring)
    }
}
