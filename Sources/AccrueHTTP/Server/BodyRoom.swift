import AccrueCore
import Foundation
import Hummingbird
import Synchronization

/// Keeps the bodies of all requests under way, and what is being sent, within `Limits.httpBodiesBytesMax`.
final class BodyRoom: Sendable {
    /// Room that is taken until this is let go of.
    final class Share: Sendable {
        private let room: BodyRoom
        private let bytes = Mutex(0)

        fileprivate init(_ room: BodyRoom) { self.room = room }

        deinit { room.taken.withLock { $0 -= bytes.withLock { $0 } } }

        fileprivate func grow(by more: Int, while operation: String) throws(AccrueError) {
            try room.take(more, while: operation)
            bytes.withLock { $0 += more }
        }
    }

    private let taken = Mutex(0)
    private let bytesMax: Int

    init(bytesMax: Int = Limits.httpBodiesBytesMax) { self.bytesMax = bytesMax }

    /// - Throws: `limitExceeded` for more than there ever is, `unavailable` when others leave no room.
    func share(_ bytes: Int, while operation: String) throws(AccrueError) -> Share {
        guard bytes <= bytesMax else {
            throw AccrueError(.limitExceeded, while: operation, "it has \(bytes) bytes; at most \(bytesMax) go over HTTP", hint: "use the command 'accrue posterior'")
        }
        let share = Share(self)
        try share.grow(by: bytes, while: operation)
        return share
    }

    /// Reads a request's body and holds room for it until `use` returns.
    /// - Parameters:
    ///   - most: bytes of a body that is not JSON.
    ///   - mostJSON: bytes of one that is.
    /// - Throws: `limitExceeded` for a body of more bytes, `unavailable` when others leave no room for it.
    func withBody<Value: Sendable>(
        of request: Request, atMost most: Int, mostJSON: Int = Limits.headerBytesMax, while operation: String, _ use: (Data) async throws -> Value
    ) async throws -> Value {
        let most = request.isJSON ? min(most, mostJSON) : most, factor = request.isJSON ? Limits.httpJSONFactor : 1
        if let told = request.headers[.contentLength].flatMap({ Int($0) }), told > most { throw Self.tooLarge("\(told)", most, operation) }
        let share = Share(self)
        var body = Data()
        for try await part in request.body {
            guard body.count + part.readableBytes <= most else { throw Self.tooLarge("more", most, operation) }
            try share.grow(by: factor * part.readableBytes, while: operation)
            body.append(contentsOf: part.readableBytesView)
        }
        let value = try await use(body)
        return withExtendedLifetime(share) { value }
    }

    private func take(_ bytes: Int, while operation: String) throws(AccrueError) {
        let isTaken = taken.withLock { taken in
            guard taken + bytes <= bytesMax else { return false }
            taken += bytes
            return true
        }
        guard isTaken else {
            throw AccrueError(
                .unavailable, while: operation, "other requests leave no room for \(bytes) bytes more; \(bytesMax) are allowed at a time", hint: "try again in a second", retryAfterMs: 1_000)
        }
    }

    private static func tooLarge(_ bytes: String, _ most: Int, _ operation: String) -> AccrueError {
        AccrueError(.limitExceeded, while: operation, "the body has \(bytes) bytes; at most \(most) are allowed", hint: "send fewer rows at a time")
    }
}
