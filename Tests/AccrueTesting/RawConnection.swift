import Glibc

/// A TCP connection that says what no ZeroMQ peer would.
public enum RawConnection {
    public struct Unavailable: Error {}

    /// Connects to `tcp://127.0.0.1:PORT`, sends random bytes (every other time after a good greeting of ZeroMQ's protocol that asks for CURVE), and hangs up.
    public static func throwBytes(at endpoint: String, seed: UInt64) throws {
        guard let port = endpoint.split(separator: ":").last.flatMap({ UInt16($0) }) else { throw Unavailable() }
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        guard descriptor >= 0 else { throw Unavailable() }
        defer { close(descriptor) }
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        let status = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) }
        }
        guard status == 0 else { throw Unavailable() }
        var bytes: [UInt8] = []
        if seed % 2 == 1 {
            bytes = [0xFF, 0, 0, 0, 0, 0, 0, 0, 1, 0x7F, 3, 1] + Array("CURVE".utf8)
            bytes += [UInt8](repeating: 0, count: 64 - bytes.count)
        }
        var state = seed
        for _ in 0..<300 {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            bytes.append(UInt8(truncatingIfNeeded: state >> 40))
        }
        _ = send(descriptor, bytes, bytes.count, Int32(MSG_NOSIGNAL))
    }
}
