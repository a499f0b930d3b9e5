import AccrueCore
import CZeroMQ
import Foundation

/// Answers libzmq's question who may connect (ZAP, ZeroMQ RFC 27): holders of keys that are on the ring now.
///
/// A key that is not is answered with a temporary failure: the connection ends without a word, and who is authorised later gets in by trying again. With a
/// final refusal libzmq would tell the other side, and that side's socket would never try again.
struct Doorkeeper: Sendable {
    /// Where libzmq asks, in each context.
    static let endpoint = "inproc://zeromq.zap.01"

    let keys: KeyRing

    /// - Parameter request: version, request id, domain, address, routing id, mechanism, and for CURVE the key's 32 bytes.
    func answer(_ request: [Data]) -> [Data] {
        func reply(_ code: String, _ text: String, user: String = "") -> [Data] {
            let id = request.count > 1 ? request[1] : Data()
            return [Data("1.0".utf8), id, Data(code.utf8), Data(text.utf8), Data(user.utf8), Data()]
        }
        guard request.count == 7, request[5] == Data("CURVE".utf8), let key = PublicKey(bytes: request[6]), keys[key] != nil else {
            return reply("300", "not authorised")
        }
        return reply("200", "OK", user: key.text)
    }
}
