import CZeroMQ
public import Foundation

/// A socket that sends whatever it is told, straight through libzmq.
public struct RawDealer {
    private let context: UnsafeMutableRawPointer
    private let socket: UnsafeMutableRawPointer

    public struct Unavailable: Error {}

    /// Whole keys make it a CURVE client.
    public init(_ endpoint: String, serverKey: String? = nil, publicKey: String? = nil, secretKey: String? = nil) throws {
        guard let context = zmq_ctx_new(), let socket = zmq_socket(context, ZMQ_DEALER) else { throw Unavailable() }
        self.context = context
        self.socket = socket
        var linger: Int32 = 0
        zmq_setsockopt(socket, ZMQ_LINGER, &linger, 4)
        for (option, key) in [(ZMQ_CURVE_SERVERKEY, serverKey), (ZMQ_CURVE_PUBLICKEY, publicKey), (ZMQ_CURVE_SECRETKEY, secretKey)] {
            if let key { zmq_setsockopt(socket, option, key, key.utf8.count) }
        }
        guard zmq_connect(socket, endpoint) == 0 else { throw Unavailable() }
    }

    /// - Parameter isWaiting: for room; without it, what finds none is dropped.
    public func send(_ frames: [Data], isWaiting: Bool = true) {
        for (index, frame) in frames.enumerated() {
            let flags = (index + 1 < frames.count ? ZMQ_SNDMORE : 0) | (isWaiting ? 0 : ZMQ_DONTWAIT)
            _ = frame.withUnsafeBytes { zmq_send(socket, $0.baseAddress, $0.count, flags) }
        }
    }

    public func close() {
        zmq_close(socket)
        zmq_ctx_term(context)
    }
}

/// Messages as nobody should send them: random frames, some of which begin like those of the protocol.
public struct HostileMessages {
    private var state: UInt64
    private let verbs: [String]

    /// - Parameter verbs: what a second frame may say.
    public init(seed: UInt64, verbs: [String]) {
        state = seed
        self.verbs = verbs
    }

    public mutating func next() -> [Data] {
        var frames: [Data] = []
        for index in 0..<(1 + random(20)) {
            switch (index, random(4)) {
            case (0, 1...): frames.append([Data("accrue/1".utf8), Data("accrue/2".utf8), Data(), bytes(8)][random(6) % 4])
            case (1, 0...2): frames.append(Data(verbs[random(verbs.count)].utf8))
            case (2, 0): frames.append(Data(#"{"id":"x","pipeline":"chain","offset":1e400}"#.utf8))
            case (2, 1): frames.append(Data(repeating: UInt8(ascii: "["), count: random(3_000)))
            case (2, 2): frames.append(Data(#"{"id":"\#(random(99))","pipeline":"chain","verb":"predict","header":{},"offset":\#(random(9)),"totalBytes":9,"length":1}"#.utf8))
            default: frames.append(bytes(random(200)))
            }
        }
        return frames
    }

    private mutating func random(_ bound: Int) -> Int {
        state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        return Int(state >> 33) % bound
    }

    private mutating func bytes(_ count: Int) -> Data { Data((0..<count).map { _ in UInt8(random(256)) }) }
}
