/// The one error type of Accrue: what was being done, what is wrong (which value against which limit), and what to do next.
///
/// It travels over the wire and into `--json` output unchanged, so every field is plain text a person can act on.
public struct AccrueError: Error, Codable, Equatable, Sendable {
    /// The kind of failure; each has one documented exit code (ops/RUNBOOK.md).
    public enum Code: String, Codable, Sendable, CaseIterable {
        /// The caller sent something that can never be accepted as it is.
        case invalidInput
        /// A named thing (pipeline, version, chunk, file) does not exist.
        case notFound
        /// The request contradicts what is already committed (same key with other content, a pipeline declared differently).
        case conflict
        /// A documented limit would be exceeded.
        case limitExceeded
        /// Not possible now; the same request may succeed later.
        case unavailable
        /// Learning did not converge: a non-finite loss, or a precision at its cap.
        case diverged
        /// Stored or received bytes are damaged.
        case corrupt
        /// The numerical engine failed.
        case engine
        /// The caller's key does not allow this request.
        case unauthorised
    }

    public var code: Code
    /// What was being done, to what: "reading chunk 4f2a… of pipeline 'digits'".
    public var operation: String
    /// What is wrong, with the value and the limit: "tensor 'inputs' has dtype F64; the schema says U8".
    public var problem: String
    /// What to do next: "convert the tensor to U8, or change the schema's dtype".
    public var hint: String
    /// The position in the pipeline's log of the chunk at fault, when exactly one is.
    public var position: Int?
    /// For `unavailable`: how long to wait before trying again, in milliseconds.
    public var retryAfterMs: Int?

    public init(
        _ code: Code, while operation: String, _ problem: String, hint: String = "", position: Int? = nil,
        retryAfterMs: Int? = nil
    ) {
        self.code = code
        self.operation = operation
        self.problem = problem
        self.hint = hint
        self.position = position
        self.retryAfterMs = retryAfterMs
    }

    /// The same, with more words about what was being done.
    public func adding(toOperation words: String) -> AccrueError {
        var error = self
        error.operation += words
        return error
    }

    /// The exit code that the commands return for this error.
    public var exitCode: Int32 { code.exitCode }
}

extension AccrueError.Code {
    /// Exit codes as ops/RUNBOOK.md lists them. 1 is any failure without a code, 2 is kept free (shells use it), 64 is a usage error.
    public var exitCode: Int32 {
        switch self {
        case .invalidInput: 3
        case .notFound: 4
        case .conflict: 5
        case .limitExceeded: 6
        case .unavailable: 7
        case .diverged: 8
        case .corrupt: 9
        case .engine: 10
        case .unauthorised: 11
        }
    }
}

extension AccrueError: CustomStringConvertible {
    public var description: String {
        let next = hint.isEmpty ? "" : "\n  next: \(hint)"
        return "\(code.rawValue): while \(operation): \(problem)\(next)"
    }
}
