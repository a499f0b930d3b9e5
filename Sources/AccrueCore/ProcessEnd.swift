import Dispatch
import Foundation
import Glibc

/// When a process of Accrue is to end: SIGTERM or SIGINT, and with a parent, the end of standard input.
public final class ProcessEnd: Sendable {
    private let requests: AsyncStream<Void>
    private let request: AsyncStream<Void>.Continuation

    /// - Parameter parentHolds: standard input is a pipe that the parent process holds; when that dies, this process ends at once, with code 0.
    public init(parentHolds: Bool) {
        (requests, request) = AsyncStream.makeStream(bufferingPolicy: .bufferingNewest(1))
        for number in [SIGTERM, SIGINT] {
            signal(number, SIG_IGN)
            let source = DispatchSource.makeSignalSource(signal: number, queue: .global())
            let request = request
            // The source keeps itself alive through its handler: it lives as long as the process.
            source.setEventHandler { withExtendedLifetime(source) { _ = request.yield() } }
            source.resume()
        }
        guard parentHolds else { return }
        let thread = Thread {
            var byte: UInt8 = 0
            while true {
                let count = read(0, &byte, 1)
                if count > 0 || (count < 0 && errno == EINTR) { continue }
                _exit(0)
            }
        }
        thread.name = "parent"
        thread.start()
    }

    /// Returns when the process is asked to end.
    public func requested() async {
        for await _ in requests { return }
    }
}
