import AccrueCore
import AccrueWire

// Who may be what: keys and the names that belong to them.
extension Coordinator {
    /// From now on these keys are let in; what others had is over.
    mutating func authorise(_ keys: [AuthorisedKey], at now: Moment) {
        let listing = KeyListing(keys: keys)
        guard listing != self.keys else { return }
        self.keys = listing
        awaiting = awaiting.filter { isAuthorised($0.key.key) }
        for name in sessions.keys.sorted() {
            guard let session = sessions[name], session.isAlive, !isAuthorised(session.key) else { continue }
            sessions[name]?.isAlive = false
            sessions[name]?.isReady = false
            note("workerLost", nil, "the key of \(session.role.rawValue) '\(name)' was revoked", at: now)
            // Not a death: nothing speaks against what it worked on.
            if let lease = session.lease { _ = leases.end(lease, of: name) }
            sessions[name]?.lease = nil
        }
    }

    /// Whether a process may join under a name: while the key under which the name joined is authorised, the name is that key's.
    ///
    /// - Throws: `unauthorised` when the name is another's; `invalidInput` when holders of keys would be sent to a socket that asks for none.
    func check(_ name: String, _ endpoint: String, _ asker: Asker, while operation: String) throws(AccrueError) {
        if asker.key != nil, endpoint.hasPrefix("tcp://"), try KeyedEndpoint(parsing: endpoint).serverKey == nil {
            throw AccrueError(
                .invalidInput, while: operation, "\(endpoint) would be reached without encryption", hint: "add ?key= and the public key of the socket there; 'accrue worker --key-file' does")
        }
        guard let old = sessions[name], old.key != asker.key, isAuthorised(old.key) else { return }
        throw AccrueError(
            .unauthorised, while: operation, "the name '\(name)' belongs to another key", hint: "choose another --name, use that key, or revoke it")
    }

    /// The home's owner always is.
    private func isAuthorised(_ key: PublicKey?) -> Bool {
        guard let key else { return true }
        return keys?.keys.contains { $0.publicKey == key } ?? false
    }
}
