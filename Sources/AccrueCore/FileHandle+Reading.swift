public import Foundation
import Glibc

// FileHandle's own functions end the process when a signal interrupts a read, such as the one that says that a child has ended.
extension FileHandle {
    private static let pieceBytes = 64 << 10

    /// What comes next, when something has come; nothing at the end.
    public func nextBytes() -> Data {
        var buffer = [UInt8](repeating: 0, count: Self.pieceBytes)
        while true {
            let count = Glibc.read(fileDescriptor, &buffer, buffer.count)
            if count >= 0 { return Data(buffer[..<count]) }
            if errno != EINTR { return Data() }
        }
    }

    /// Everything up to the end.
    public func allBytes() -> Data {
        var bytes = Data()
        while true {
            let next = nextBytes()
            if next.isEmpty { return bytes }
            bytes.append(next)
        }
    }
}
