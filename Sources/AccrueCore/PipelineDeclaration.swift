/// A pipeline as it is declared: everything a posterior depends on besides the log.
public struct PipelineDeclaration: Codable, Equatable, Sendable {
    public struct Round: Codable, Equatable, Sendable {
        /// Chunks that end a round, counted by position.
        public var chunks: Int
        /// Seconds after which an open round with chunks is cut; nil: never.
        public var linger: Double?
        public init(chunks: Int, linger: Double? = nil) {
            self.chunks = chunks
            self.linger = linger
        }
    }

    /// What is kept of chunks once they are absorbed.
    public struct Kept: Codable, Equatable, Sendable {
        public var data: Retention
        public init(data: Retention) { self.data = data }
    }
    /// Limits of this pipeline, below those of `Limits`.
    public struct Bounds: Codable, Equatable, Sendable {
        /// Chunks that may wait before pushes are refused as busy.
        public var waitingChunks: Int
        public init(waitingChunks: Int) { self.waitingChunks = waitingChunks }
    }

    public var name: String
    public var method: String
    public var seed: UInt64
    public var schema: Schema
    public var settings: JSONValue
    public var round: Round
    /// At most this many shards a round; not the number of workers.
    public var shards: Int
    public var sweeps: Int
    /// Workers on whose disks a chunk is before its push is acknowledged; nil: 1.
    public var replicas: Int?
    public var retention: Kept?
    public var limits: Bounds?

    public init(
        name: String, method: String, seed: UInt64, schema: Schema, settings: JSONValue, round: Round, shards: Int = 1, sweeps: Int = 1,
        replicas: Int? = nil, retention: Kept? = nil, limits: Bounds? = nil
    ) {
        self.name = name
        self.method = method
        self.seed = seed
        self.schema = schema
        self.settings = settings
        self.round = round
        self.shards = shards
        self.sweeps = sweeps
        self.replicas = replicas
        self.retention = retention
        self.limits = limits
    }

    /// Keys of a pipeline file; the last four are used by `accrue run` alone.
    public static let keys = [
        "name", "method", "seed", "schema", "settings", "round", "shards", "sweeps", "replicas", "retention", "limits", "source", "holdout", "expect", "profiles",
    ]

    /// Reads a declaration (the parsed YAML or JSON of a pipeline file), refusing unknown keys and values out of range.
    /// - Throws: `invalidInput` naming the key, the value and the range.
    public init(parsing file: JSONValue) throws(AccrueError) {
        let operation = "reading pipeline '\(file["name"]?.string ?? "?")'"
        func refuse(_ problem: String, _ hint: String = "") -> AccrueError { AccrueError(.invalidInput, while: operation, problem, hint: hint) }
        try StrictKeys.check(file, known: Self.keys, while: operation)
        if let profiles = file["profiles"] {
            guard case .object = profiles else { throw refuse("'profiles' is \(profiles.canonical); it must be a mapping from names to other values", "for example profiles: {quick: {settings: {epochs: 1}}}") }
        }
        guard let name = file["name"]?.string, Self.isName(name) else {
            throw refuse("'name' must be 1 to \(Limits.pipelineNameCharactersMax) of a-z, 0-9, '-', starting with a letter", "for example name: fashion-mnist")
        }
        guard let method = file["method"]?.string else { throw refuse("'method' is missing", "for example method: IncrementalBayes") }
        guard let schema = file["schema"]?.array, !schema.isEmpty else { throw refuse("'schema' must be a list with at least one tensor") }
        for tensor in schema {
            try StrictKeys.check(tensor, known: TensorSchema.keys, while: operation + ", schema")
            if let transform = tensor["transform"] { try StrictKeys.check(transform, known: TensorSchema.transformKeys, while: operation + ", schema transform") }
        }
        let tensors = try JSONValue.array(schema).decode(Schema.self, while: operation + ", schema")
        guard Set(tensors.tensors.map(\.name)).count == tensors.tensors.count else { throw refuse("two tensors of the schema have the same name") }
        for tensor in tensors.tensors {
            guard !tensor.name.isEmpty, tensor.shape.count < Limits.tensorDimensionsMax, tensor.shape.allSatisfy({ $0 > 0 }) else {
                throw refuse("tensor '\(tensor.name)' needs a name and positive dimensions; its shape is \(tensor.shape)")
            }
            let bytes = tensor.shape.reduce(tensor.dtype.byteCount) { product, size in
                let (result, isTooLarge) = product.multipliedReportingOverflow(by: size)
                return isTooLarge ? .max : result
            }
            guard bytes <= Limits.chunkBytesMax else {
                throw refuse("a row of tensor '\(tensor.name)' with shape \(tensor.shape) would not fit a chunk, which has at most \(Limits.chunkBytesMax) bytes")
            }
            if let problem = tensor.transformProblem { throw refuse(problem) }
        }
        if let round = file["round"] { try StrictKeys.check(round, known: ["chunks", "linger"], while: operation + ", round") }
        func whole(_ value: JSONValue?, _ key: String, _ standard: Int, _ limit: Int) throws(AccrueError) -> Int {
            guard let value else { return standard }
            guard let number = value.int, (1...limit).contains(number) else { throw refuse("'\(key)' is \(value.canonical); it must be a whole number from 1 to \(limit)") }
            return number
        }
        let chunks = try whole(file["round"]?["chunks"], "round.chunks", 1, Limits.roundChunksMax)
        let linger = file["round"]?["linger"]
        if let linger, !((linger.double ?? -1) > 0) { throw refuse("'round.linger' is \(linger.canonical); it must be a number of seconds above 0") }
        var retention: Kept?
        if let kept = file["retention"] {
            try StrictKeys.check(kept, known: ["data"], while: operation + ", retention")
            guard let data = kept["data"]?.string.flatMap(Retention.init) else {
                throw refuse("'retention.data' is \(kept["data"]?.canonical ?? "missing"); it must be 'all', 'none' or 'versions N'", "for example retention: {data: versions 10}")
            }
            retention = Kept(data: data)
        }
        var limits: Bounds?
        if let bounds = file["limits"] {
            try StrictKeys.check(bounds, known: ["waitingChunks"], while: operation + ", limits")
            limits = Bounds(waitingChunks: try whole(bounds["waitingChunks"], "limits.waitingChunks", Limits.waitingChunksMax, Limits.waitingChunksMax))
        }
        guard let seed = file["seed"]?.int, seed >= 0 else { throw refuse("'seed' must be a whole number of at least 0", "for example seed: 1") }
        self.init(
            name: name, method: method, seed: UInt64(seed), schema: tensors, settings: file["settings"] ?? .object([:]),
            round: Round(chunks: chunks, linger: linger?.double), shards: try whole(file["shards"], "shards", 1, Limits.shardsMax),
            sweeps: try whole(file["sweeps"], "sweeps", 1, Limits.sweepsMax),
            replicas: file["replicas"] == nil ? nil : try whole(file["replicas"], "replicas", 1, Limits.replicasMax),
            retention: retention, limits: limits)
    }

    private static func isName(_ name: String) -> Bool {
        let bytes = Array(name.utf8)
        guard let first = bytes.first, (97...122).contains(first), bytes.count <= Limits.pipelineNameCharactersMax else { return false }
        return bytes.allSatisfy { (97...122).contains($0) || (48...57).contains($0) || $0 == 45 }
    }
}
