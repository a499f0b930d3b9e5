public import AccrueCore
public import AccrueWire
import Foundation

/// A question to a posterior.
public struct PosteriorQuestion: Sendable {
    public var pipeline: String
    /// Verb, header and tensors, as the pipeline's method understands them.
    public var content: QueryBytes
    /// A version; nil: the newest.
    public var at: Int?
    /// The answer must not rest on an earlier version than this; nil: whichever the querier has.
    public var atLeast: Int?
    /// Of the draws; nil: 0.
    public var seed: Int?
    public init(pipeline: String, content: QueryBytes, at: Int? = nil, atLeast: Int? = nil, seed: Int? = nil) {
        self.pipeline = pipeline
        self.content = content
        self.at = at
        self.atLeast = atLeast
        self.seed = seed
    }
}

/// The answer to a question: what it rests on, the method's header, tensors.
public struct PosteriorAnswer: Equatable, Sendable {
    public var reply: QueryReply
    public var tensors: [String: TensorBytes]
    public init(reply: QueryReply, tensors: [String: TensorBytes]) {
        self.reply = reply
        self.tensors = tensors
    }
}

extension ClusterConnection {
    private static let queryMs = 600_000
    /// A querier works on a question that it was sent twice twice; a lost one is noticed by its querier's death.
    private static let queryResendMs = 30_000

    /// Asks one question in one message, at any querier.
    /// - Throws: `notFound` for an unknown pipeline, version or verb, `invalidInput`, `limitExceeded`; `unavailable` when no querier answers, or
    ///   there is no version that is late enough.
    public func query(_ question: PosteriorQuestion) async throws(AccrueError) -> PosteriorAnswer {
        let content = question.content
        let operation = "asking pipeline '\(question.pipeline)' to '\(content.verb)'"
        if let at = question.at, let atLeast = question.atLeast, at < atLeast {
            throw AccrueError(.invalidInput, while: operation, "version \(at) is asked for, and one of at least \(atLeast)", hint: "give 'at' or 'atLeast', not both")
        }
        let header = QueryHeader(pipeline: question.pipeline, verb: content.verb, header: content.header, at: question.at, atLeast: question.atLeast, seed: question.seed)
        let bytes = content.tensors.isEmpty ? Data() : Safetensors(tensors: content.tensors).encode()
        let room = Limits.frameBytesMax * (Limits.messagePartsMax - 3)
        guard bytes.count <= room else {
            throw AccrueError(.limitExceeded, while: operation, "the question has \(bytes.count) bytes; at most \(room) are allowed", hint: "ask about fewer rows at a time")
        }
        let frames = stride(from: 0, to: bytes.count, by: Limits.frameBytesMax).map { bytes[$0..<min(bytes.count, $0 + Limits.frameBytesMax)] }
        let message = try Message(.query, encoding: header, payload: frames)
        return try await withLive(.query, turn: Int.random(in: 0..<1_024), while: operation) { querier throws(AccrueError) in
            let answer = try await querier.request(message, timeoutMs: Self.queryMs, resendMs: Self.queryResendMs)
            let tensors = answer.payload.isEmpty ? [:] : try Safetensors.decode(answer.payload.count == 1 ? answer.payload[0] : Data(answer.payload.joined())).tensors
            return PosteriorAnswer(reply: try answer.read(), tensors: tensors)
        }
    }

    /// Asks about any number of rows: in parts that a querier answers in moments, all of the same version, put together to one answer.
    /// - Parameters:
    ///   - rows: the question's tensors; its `content.tensors` are not used.
    ///   - answered: told how many rows have been answered.
    public func query(_ question: PosteriorQuestion, rows: TensorRows, answered: (Int) -> Void = { _ in }) async throws(AccrueError) -> PosteriorAnswer {
        let ranges = rows.ranges(perRange: rows.rows(inBytes: Self.partBytesMax, atMost: Self.partRowsMax))
        @Sendable func part(_ index: Int, at version: Int?) async throws(AccrueError) -> PosteriorAnswer {
            var part = question
            part.content.tensors = rows.tensors(ranges[index])
            part.at = version
            return try await query(part)
        }
        var parts = [try await part(0, at: question.at)]
        answered(ranges[0].upperBound)
        let version = parts[0].reply.version
        try await windowed(count: ranges.count - 1, window: Self.partsInFlight * max(1, endpoints.query.count)) { index throws(AccrueError) in
            try await part(index + 1, at: version)
        } each: { index, answer in
            parts.append(answer)
            answered(ranges[index + 1].upperBound)
        }
        return try PosteriorAnswer.joined(parts, while: "asking pipeline '\(question.pipeline)' to '\(question.content.verb)'")
    }

    private static let partBytesMax = 4 << 20
    private static let partRowsMax = 1_000
    /// Parts that one querier works on at a time.
    private static let partsInFlight = 2
}
