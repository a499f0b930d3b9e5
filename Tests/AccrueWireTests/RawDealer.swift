import CZeroMQ
import Foundation

/// A socket that sends whatever it is told, straight through libzmq.
struct RawDealer {
    private let context: UnsafeMutableRawPointer
    private let socket: UnsafeMutableRawPointer

    struct Unavailable: Error {}

    init(_ endpoint: String) throws {
        guard let context = zmq_ctx_new(), let socket = zmq_socket(context, ZMQ_DEALER) else { throw Unavailable() }
        self.context = context
        self.socket = socket
        var linger: Int32 = 0
        zmq_setsockopt(socket, ZMQ_LINGER, &linger, 4)
        guard zmq_connect(socket, endpoint) == 0 else { throw Unavailable() }
    }

    func send(_ frames: [Data]) {
        for (index, frame) in frames.enumerated() {
            _ = frame.withUnsafeBytes { zmq_send(socket, $0.baseAddress, $0.count, index + 1 < frames.count ? ZMQ_SNDMORE : 0) }
        }
    }

    func close() {
        zmq_close(socket)
        zmq_ctx_term(context)
    }
}
