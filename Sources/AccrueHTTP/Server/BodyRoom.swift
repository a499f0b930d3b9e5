import AccrueCore
import Foundation
import Hummingbird
import Synchronization

/// Keeps the bodies of all requests under way within `Limits.httpBodiesBytesMax`.
final class BodyRoom: Sendable {
    private let taken = Mutex(0)
    private let bytesMax: Int

    init(bytesMax: Int = Limits.httpBodiesBytesMax) { self.bytesMax = bytesMax }

    /// Reads a request's body and holds room for it until `use` returns.
    /// - Throws: `limitExceeded` for a body of more than `most` bytes, `unavailable` when others leave no room for it.
    func withBody<Value: Sendable>(of request: Request, atMost most: Int, while operation: String, _ use: (Data) async throws -> Value) async throws -> Value {
        let told = request.headers[.contentLength].flatMap { Int($0) }.map { max(0, $0) }
        guard told ?? 0 <= most else { throw Self.tooLarge("\(told ?? 0)", most, operation) }
        let room = told ?? most
        try take(room, while: operation)
        defer { taken.withLock { $0 -= room } }
        let buffer: ByteBuffer
        do { buffer = try await request.body.collect(upTo: most) } catch let error as HTTPError where error.status == .contentTooLarge {
            throw Self.tooLarge("more", most, operation)
        }
        return try await use(Data(buffer.readableBytesView))
    }

    private func take(_ bytes: Int, while operation: String) throws(AccrueError) {
        let isTaken = taken.withLock { taken in
            guard taken + bytes <= bytesMax else { return false }
            taken += bytes
            return true
        }
        guard isTaken else {
            throw AccrueError(
                .unavailable, while: operation, "bodies of other requests leave no room for \(bytes) bytes; \(bytesMax) are allowed at a time", hint: "try again in a second",
                retryAfterMs: 1_000)
        }
    }

    private static func tooLarge(_ bytes: String, _ most: Int, _ operation: String) -> AccrueError {
        AccrueError(.limitExceeded, while: operation, "the body has \(bytes) bytes; at most \(most) are allowed", hint: "send fewer rows at a time")
    }
}
