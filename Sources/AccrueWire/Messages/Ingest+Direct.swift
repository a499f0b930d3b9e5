public import AccrueCore

// What goes with every push, written and read without Codable's containers.

extension Push: DirectlyCoded {
    public func write(to text: inout JSONText) -> Bool {
        text.beginObject()
        if let chunks, !text.field("chunks", chunks) { return false }
        if let hash { text.field("hash", hash) }
        if let incarnation { text.field("incarnation", incarnation) }
        if let key { text.field("key", key) }
        if let offset { text.field("offset", offset) }
        text.field("pipeline", pipeline)
        if let totalBytes { text.field("totalBytes", totalBytes) }
        text.endObject()
        return true
    }
    public init?(json: JSONValue) {
        guard case .object(let fields) = json, let pipeline = fields["pipeline"]?.string, let incarnation = fields.optional("incarnation", \.string),
            let key = fields.optional("key", \.string), let offset = fields.optional("offset", \.int), let totalBytes = fields.optional("totalBytes", \.int),
            let hash = fields.optional("hash", ContentHash.init(json:)), let chunks = fields.optional("chunks", { $0.list(Part.init(json:)) })
        else { return nil }
        self.init(pipeline: pipeline, incarnation: incarnation, key: key, offset: offset, totalBytes: totalBytes, hash: hash)
        self.chunks = chunks
    }
}

extension Push.Part: DirectlyCoded {
    public func write(to text: inout JSONText) -> Bool {
        text.beginObject()
        text.field("bytes", bytes)
        if let key { text.field("key", key) }
        text.endObject()
        return true
    }
    public init?(json: JSONValue) {
        guard case .object(let fields) = json, let bytes = fields["bytes"]?.int, let key = fields.optional("key", \.string) else { return nil }
        self.init(bytes: bytes, key: key)
    }
}

extension Acknowledgements.Result: DirectlyCoded {
    /// An error is explained at length; only an acknowledgement is written here.
    public func write(to text: inout JSONText) -> Bool { (try? get())?.write(to: &text) ?? false }
    public init?(json: JSONValue) {
        guard let acknowledgement = Acknowledgement(json: json) else { return nil }
        self.init(.success(acknowledgement))
    }
}

extension Acknowledgements: DirectlyCoded {
    public func write(to text: inout JSONText) -> Bool { text.object(of: "results", results) }
    public init?(json: JSONValue) {
        guard let results = json["results"]?.list(Result.init(json:)) else { return nil }
        self.init([])
        self.results = results
    }
}

extension Replica: DirectlyCoded {
    public func write(to text: inout JSONText) -> Bool {
        text.beginObject()
        text.field("boot", boot)
        text.field("worker", worker)
        text.endObject()
        return true
    }
    public init?(json: JSONValue) {
        guard let worker = json["worker"]?.string, let boot = json["boot"]?.string else { return nil }
        self.init(worker: worker, boot: boot)
    }
}

extension Announce.Item: DirectlyCoded {
    public func write(to text: inout JSONText) -> Bool {
        text.beginObject()
        guard text.field("chunk", chunk) else { return false }
        if let replicas, !text.field("replicas", replicas) { return false }
        text.endObject()
        return true
    }
    public init?(json: JSONValue) {
        guard case .object(let fields) = json, let chunk = fields["chunk"].flatMap(LogEntry.Chunk.init(json:)),
            let replicas = fields.optional("replicas", { $0.list(Replica.init(json:)) })
        else { return nil }
        self.init(chunk, replicas: replicas)
    }
}

extension Announce: DirectlyCoded {
    public func write(to text: inout JSONText) -> Bool {
        text.beginObject()
        text.field("incarnation", incarnation)
        guard text.field("items", items) else { return false }
        text.field("pipeline", pipeline)
        text.field("worker", worker)
        text.endObject()
        return true
    }
    public init?(json: JSONValue) {
        guard case .object(let fields) = json, let worker = fields["worker"]?.string, let pipeline = fields["pipeline"]?.string,
            let incarnation = fields["incarnation"]?.string, let items = fields["items"]?.list(Item.init(json:))
        else { return nil }
        self.init(worker: worker, pipeline: pipeline, incarnation: incarnation, items: items)
    }
}

extension AnnounceReply.Result: DirectlyCoded {
    /// An error is explained at length; only what is taken is written here.
    public func write(to text: inout JSONText) -> Bool {
        guard error == nil else { return false }
        text.beginObject()
        if let duplicate { text.field("duplicate", duplicate) }
        if let position { text.field("position", position) }
        text.endObject()
        return true
    }
    public init?(json: JSONValue) {
        guard case .object(let fields) = json, fields["error"] == nil, let position = fields.optional("position", \.int),
            let duplicate = fields.optional("duplicate", \.bool)
        else { return nil }
        self.init(position: position, duplicate: duplicate)
    }
}

extension AnnounceReply: DirectlyCoded {
    public func write(to text: inout JSONText) -> Bool { text.object(of: "results", results) }
    public init?(json: JSONValue) {
        guard let results = json["results"]?.list(Result.init(json:)) else { return nil }
        self.init(results: results)
    }
}

extension Acknowledgement: DirectlyCoded {
    public func write(to text: inout JSONText) -> Bool {
        text.beginObject()
        text.field("chunk", chunk)
        text.field("duplicate", duplicate)
        text.field("position", position)
        text.endObject()
        return true
    }
    public init?(json: JSONValue) {
        guard case .object(let fields) = json, let chunk = fields["chunk"].flatMap(ContentHash.init(json:)), let position = fields["position"]?.int,
            let duplicate = fields["duplicate"]?.bool
        else { return nil }
        self.init(chunk: chunk, position: position, duplicate: duplicate)
    }
}

extension JSONText {
    /// An object with one field, a list.
    /// - Returns: false when only the Codable form writes one of its values.
    fileprivate mutating func object(of name: StaticString, _ list: [some DirectlyCoded]) -> Bool {
        beginObject()
        guard field(name, list) else { return false }
        endObject()
        return true
    }
}
