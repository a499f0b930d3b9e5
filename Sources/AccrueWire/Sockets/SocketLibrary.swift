import CZeroMQ

/// The libzmq that this program runs with.
public enum SocketLibrary {
    /// As "4.3.4".
    public static var version: String {
        var major: Int32 = 0, minor: Int32 = 0, patch: Int32 = 0
        zmq_version(&major, &minor, &patch)
        return "\(major).\(minor).\(patch)"
    }

    /// Whether it was built with CURVE, without which no connection over TCP can be encrypted.
    public static var hasCurve: Bool { zmq_has("curve") == 1 }
}
