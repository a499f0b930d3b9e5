public import AccrueCore
public import Foundation

extension Message {
    /// A message of a known verb.
    public init(_ verb: Verb, _ header: JSONValue = .object([:]), payload: [Data] = []) {
        self.init(verb.rawValue, header, payload: payload)
    }

    /// A message of a known verb with a Codable header, to which a request id is added.
    /// - Throws: `invalidInput` when the header cannot be written as JSON.
    public init(_ verb: Verb, id: String? = nil, encoding header: some Encodable, payload: [Data] = []) throws(AccrueError) {
        try self.init(verb.rawValue, id: id, encoding: header, payload: payload)
    }

    /// The answer that grants a request, with a Codable header.
    /// - Throws: `invalidInput` when the header cannot be written as JSON.
    public static func reply(_ id: String?, encoding header: some Encodable, payload: [Data] = []) throws(AccrueError) -> Message {
        try Message("reply", id: id, encoding: header, payload: payload)
    }

    /// The verb, if it is one of the protocol's.
    public var known: Verb? { Verb(rawValue: verb) }

    /// The header as the verb's type.
    /// - Throws: `invalidInput` naming the field at fault.
    public func read<Header: Decodable>(_: Header.Type = Header.self) throws(AccrueError) -> Header {
        try header.decode(while: "reading the header of '\(verb)'")
    }
}
