public import AccrueCore
public import AccrueWire
import Foundation

/// How tests wait: a suite's time limit is the only clock that ends what waits in vain, so that a busy machine fails no test.
public enum Waiting {
    /// For an answer that is sure to come; longer than any suite's time limit.
    public static let answerMs = 3_600_000
    /// For an answer that cannot come.
    public static let vainMs = 300
}

extension Requester {
    /// Asks, and waits for the answer as long as it takes.
    public func patiently(_ message: Message, patient: Bool = true) async throws(AccrueError) -> Message {
        try await request(message, timeoutMs: Waiting.answerMs, patient: patient)
    }

    /// Asks, and waits for the answer as long as it takes.
    public func askPatiently<Answer: Decodable & Sendable>(_ verb: Verb, _ header: some Encodable, as _: Answer.Type = Answer.self) async throws(AccrueError) -> Answer {
        try await ask(verb, header, timeoutMs: Waiting.answerMs)
    }
}

/// Does what blocks or takes long on a thread of its own: those that tests run on are as few as the machine has cores, and other tests need them meanwhile.
public func onOwnThread<Value: Sendable>(_ work: @escaping @Sendable () throws -> Value) async throws -> Value {
    try await withCheckedThrowingContinuation { continuation in
        Thread { continuation.resume(with: Result { try work() }) }.start()
    }
}
