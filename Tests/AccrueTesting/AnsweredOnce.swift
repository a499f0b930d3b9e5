public import AccrueCore
public import AccrueWire
import Synchronization

/// Gives a request that was sent again the answer that it got: on a busy machine clients send again, and what tests count is requests.
public final class AnsweredOnce: Sendable {
    private let answers = Mutex<[String: Result<Message, AccrueError>]>([:])

    public init() {}

    /// - Parameter answer: makes the answer, or nothing at all; asked again for what it left unanswered, and for what it told to come again.
    public func answer(_ message: Message, with answer: (Message) throws(AccrueError) -> Message?) throws(AccrueError) -> Message? {
        guard let id = message.id else { return try answer(message) }
        if let known = answers.withLock({ $0[id] }) { return try known.get() }
        do throws(AccrueError) {
            guard let made = try answer(message) else { return nil }
            answers.withLock { $0[id] = .success(made) }
            return made
        } catch {
            if error.retryAfterMs == nil { answers.withLock { $0[id] = .failure(error) } }
            throw error
        }
    }
}
