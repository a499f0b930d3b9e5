public import AccrueCore

// What goes with every push, written and read without Codable's containers.

extension Push: DirectlyCoded {
    public var json: JSONValue? {
        .object(.init(present: [
            "pipeline": .string(pipeline), "incarnation": incarnation.map { .string($0) }, "key": key.map { .string($0) }, "offset": offset.map { .integer($0) },
            "totalBytes": totalBytes.map { .integer($0) }, "hash": hash?.json,
        ]))
    }
    public init?(json: JSONValue) {
        guard case .object(let fields) = json, let pipeline = fields["pipeline"]?.string, let incarnation = fields.optional("incarnation", \.string),
            let key = fields.optional("key", \.string), let offset = fields.optional("offset", \.int), let totalBytes = fields.optional("totalBytes", \.int),
            let hash = fields.optional("hash", ContentHash.init(json:))
        else { return nil }
        self.init(pipeline: pipeline, incarnation: incarnation, key: key, offset: offset, totalBytes: totalBytes, hash: hash)
    }
}

extension Replica: DirectlyCoded {
    public var json: JSONValue? { .object(["worker": .string(worker), "boot": .string(boot)]) }
    public init?(json: JSONValue) {
        guard let worker = json["worker"]?.string, let boot = json["boot"]?.string else { return nil }
        self.init(worker: worker, boot: boot)
    }
}

extension Announce.Item: DirectlyCoded {
    public var json: JSONValue? { .object(.init(present: ["chunk": chunk.json, "replicas": replicas.map { .array($0.compactMap(\.json)) }])) }
    public init?(json: JSONValue) {
        guard case .object(let fields) = json, let chunk = fields["chunk"].flatMap(LogEntry.Chunk.init(json:)),
            let replicas = fields.optional("replicas", { $0.list(Replica.init(json:)) })
        else { return nil }
        self.init(chunk, replicas: replicas)
    }
}

extension Announce: DirectlyCoded {
    public var json: JSONValue? {
        .object([
            "worker": .string(worker), "pipeline": .string(pipeline), "incarnation": .string(incarnation), "items": .array(items.compactMap(\.json)),
        ])
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
    public var json: JSONValue? {
        guard error == nil else { return nil }
        return .object(.init(present: ["position": position.map { .integer($0) }, "duplicate": duplicate.map { .bool($0) }]))
    }
    public init?(json: JSONValue) {
        guard case .object(let fields) = json, fields["error"] == nil, let position = fields.optional("position", \.int),
            let duplicate = fields.optional("duplicate", \.bool)
        else { return nil }
        self.init(position: position, duplicate: duplicate)
    }
}

extension AnnounceReply: DirectlyCoded {
    public var json: JSONValue? {
        let results = results.compactMap(\.json)
        return results.count == self.results.count ? .object(["results": .array(results)]) : nil
    }
    public init?(json: JSONValue) {
        guard let results = json["results"]?.list(Result.init(json:)) else { return nil }
        self.init(results: results)
    }
}

extension Acknowledgement: DirectlyCoded {
    public var json: JSONValue? {
        .object(.init(present: ["chunk": chunk.json, "position": .integer(position), "duplicate": .bool(duplicate)]))
    }
    public init?(json: JSONValue) {
        guard case .object(let fields) = json, let chunk = fields["chunk"].flatMap(ContentHash.init(json:)), let position = fields["position"]?.int,
            let duplicate = fields["duplicate"]?.bool
        else { return nil }
        self.init(chunk: chunk, position: position, duplicate: duplicate)
    }
}
