public import AccrueCore
public import Foundation

/// One message: a verb, a JSON header and payload frames. On the wire: `["accrue/1"][verb][header][payload…]`.
public struct Message: Equatable, Sendable {
    public static let protocolVersion = "accrue/1"

    /// A header is written and read at most once: one that writes itself stays text, but for its id, unless somebody asks for its fields.
    private enum Header: Sendable {
        case value(JSONValue)
        case text([UInt8], id: String?)
    }

    public var verb: String
    public var payload: [Data]
    private var stored: Header

    public init(_ verb: String, _ header: JSONValue = .object([:]), payload: [Data] = []) {
        self.verb = verb
        self.payload = payload
        stored = .value(header)
    }

    public var header: JSONValue {
        get {
            switch stored {
            case .value(let value): value
            // What wrote itself is well formed.
            case .text(let text, let id): ((try? JSONValue(parsing: Data(text))) ?? .object([:])).adding(id: id)
            }
        }
        set { stored = .value(newValue) }
    }

    public static func == (left: Message, right: Message) -> Bool {
        left.verb == right.verb && left.payload == right.payload && left.header == right.header
    }

    /// A message with a Codable header, to which a request id is added; one that writes itself does so.
    /// - Throws: `invalidInput` when the header cannot be written as JSON.
    public init(_ verb: String, id: String? = nil, encoding header: some Encodable, payload: [Data] = []) throws(AccrueError) {
        self.init(verb, payload: payload)
        if let text = (header as? any DirectlyCoded)?.text, text.first == UInt8(ascii: "{") {
            stored = .text(text, id: id)
        } else {
            stored = .value(try JSONValue(encoding: header).adding(id: id))
        }
    }

    /// The request's id, echoed in its answer.
    public var id: String? {
        switch stored {
        case .value(let value): value["id"]?.string
        case .text(_, let id): id
        }
    }

    /// Puts the field `id` into the header.
    mutating func add(id: String) {
        switch stored {
        case .value(let value): stored = .value(value.adding(id: id))
        case .text(let text, _): stored = .text(text, id: id)
        }
    }

    private var headerBytes: Data {
        switch stored {
        case .value(let value): return value.canonicalBytes
        case .text(let text, nil): return Data(text)
        case .text(var text, let id?):
            text.removeLast()
            if text.count > 1 { text.append(UInt8(ascii: ",")) }
            text.append(contentsOf: "\"id\":".utf8)
            text.append(contentsOf: JSONValue.string(id).canonicalBytes)
            text.append(UInt8(ascii: "}"))
            return Data(text)
        }
    }

    /// The payload's frames, joined in order.
    public var joinedPayload: Data {
        if payload.count == 1 { return payload[0] }
        var bytes = Data(capacity: payload.reduce(0) { $0 + $1.count })
        for frame in payload { bytes.append(frame) }
        return bytes
    }

    /// The answer that refuses a request.
    public static func refuse(_ id: String?, _ error: AccrueError) -> Message {
        let body = (try? JSONValue(encoding: error)) ?? .object(["code": .string(error.code.rawValue)])
        return Message("refuse", .object(["error": body]).adding(id: id))
    }

    /// The answer that grants a request.
    public static func reply(_ id: String?, _ header: JSONValue = .object([:]), payload: [Data] = []) -> Message {
        Message("reply", header.adding(id: id), payload: payload)
    }

    /// The error of a `refuse` message.
    public var refusal: AccrueError? {
        guard verb == "refuse" else { return nil }
        guard let error = header["error"], let decoded: AccrueError = try? error.decode(while: "reading a refusal") else {
            return AccrueError(.corrupt, while: "reading a refusal", "the error in it is not well formed")
        }
        return decoded
    }

    /// Frames, without the routing identity.
    /// - Throws: `limitExceeded` when a frame, the header or their number is too large to send.
    public func frames() throws(AccrueError) -> [Data] {
        let text = headerBytes
        try Self.check(header: text, parts: payload.count + 3, payload)
        return [Data(Self.protocolVersion.utf8), Data(verb.utf8), text] + payload
    }

    /// Reads received frames, without the routing identity. Nothing about them is trusted.
    /// - Throws: `invalidInput` for another protocol version or a malformed verb or header, `limitExceeded` for what is too large.
    public init(frames: [Data]) throws(AccrueError) {
        let operation = "reading a message"
        guard frames.count >= 3 else {
            throw AccrueError(.invalidInput, while: operation, "\(frames.count) frames; a message has at least 3: version, verb, header", hint: "see ops/PROTOCOL.md")
        }
        guard frames[0] == Data(Self.protocolVersion.utf8) else {
            throw AccrueError(.invalidInput, while: operation, "the first frame is not '\(Self.protocolVersion)'", hint: "use a client of this protocol version")
        }
        guard frames[1].count <= 64, let verb = String(validating: frames[1], as: UTF8.self), !verb.isEmpty else {
            throw AccrueError(.invalidInput, while: operation, "the verb is empty, too long or not UTF-8", hint: "see ops/PROTOCOL.md")
        }
        try Self.check(header: frames[2], parts: frames.count, Array(frames.dropFirst(3)))
        let header = try JSONValue(parsing: frames[2])
        guard case .object = header else { throw AccrueError(.invalidInput, while: operation, "the header is not a JSON object", hint: "see ops/PROTOCOL.md") }
        self.init(verb, header, payload: Array(frames.dropFirst(3)))
    }

    private static func check(header: Data, parts: Int, _ payload: [Data]) throws(AccrueError) {
        func refuse(_ problem: String) -> AccrueError {
            AccrueError(.limitExceeded, while: "checking a message", problem, hint: "send bulk in pieces of at most \(Limits.pieceBytesMax) bytes")
        }
        if parts > Limits.messagePartsMax { throw refuse("\(parts) frames; at most \(Limits.messagePartsMax) are allowed") }
        if header.count > Limits.headerBytesMax { throw refuse("a header of \(header.count) bytes; at most \(Limits.headerBytesMax) are allowed") }
        for frame in payload where frame.count > Limits.frameBytesMax { throw refuse("a frame of \(frame.count) bytes; at most \(Limits.frameBytesMax) are allowed") }
    }
}

extension JSONValue {
    /// This object with the field `id`.
    func adding(id: String?) -> JSONValue {
        guard let id, case .object(var fields) = self else { return self }
        fields["id"] = .string(id)
        return .object(fields)
    }
}
