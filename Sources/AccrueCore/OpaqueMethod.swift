public import Foundation

/// Where a piece of work stands in its round. Part of the method protocol; every value is a function of pipeline and log.
public struct Round: Sendable {
    /// Number of the version that this round makes.
    public var index: Int
    /// Whether nothing was learned or imported before: the base is what the method itself started with.
    public var isFirst: Bool
    /// 0-based sweep, of `sweeps`.
    public var sweep: Int
    public var sweeps: Int
    /// 0-based shard, of `shards`; 0 outside fit and statistics.
    public var shard: Int
    public var shards: Int
    /// Rows of this shard; the round's rows outside fit and statistics.
    public var shardRows: Int
    public var roundRows: Int
    /// Rows absorbed by earlier versions.
    public var rowsBefore: Int
    /// The same on all shards of a sweep.
    public var sweepKey: RandomKey
    /// Asked at each step; true ends the fit with `unavailable`.
    public var shouldStop: @Sendable () -> Bool

    public init(
        index: Int, isFirst: Bool? = nil, sweep: Int, sweeps: Int, shard: Int = 0, shards: Int, shardRows: Int, roundRows: Int, rowsBefore: Int,
        sweepKey: RandomKey, shouldStop: @escaping @Sendable () -> Bool = { false }
    ) {
        self.index = index
        self.isFirst = isFirst ?? (index == 1)
        self.sweep = sweep
        self.sweeps = sweeps
        self.shard = shard
        self.shards = shards
        self.shardRows = shardRows
        self.roundRows = roundRows
        self.rowsBefore = rowsBefore
        self.sweepKey = sweepKey
        self.shouldStop = shouldStop
    }
}

/// The keys of a round: from seed, version, phase, sweep and shard alone; never from attempt, worker or time.
public struct RoundKeys: Sendable {
    private let root: RandomKey
    public init(seed: UInt64, version: Int) { root = RandomKey(seed: seed).folding("round").folding(version) }
    public static func initial(seed: UInt64) -> RandomKey { RandomKey(seed: seed).folding("initial") }
    public var begin: RandomKey { root.folding("begin") }
    public var adopt: RandomKey { root.folding("adopt") }
    public var adapt: RandomKey { root.folding("adapt") }
    public func sweep(_ sweep: Int) -> RandomKey { root.folding("sweep").folding(sweep) }
    public func fit(sweep: Int, shard: Int) -> RandomKey { root.folding("fit").folding(sweep).folding(shard) }
    public func merge(sweep: Int) -> RandomKey { root.folding("merge").folding(sweep) }
    public func statistics(shard: Int) -> RandomKey { root.folding("statistics").folding(shard) }
    public func score(_ rows: RowRange) -> RandomKey { root.folding("score").folding(rows.position).folding(rows.firstRow) }
    public var finish: RandomKey { root.folding("finish") }
}

/// What a fit says for people; never part of a state.
public struct FitReport: Codable, Equatable, Sendable {
    public var steps: Int
    /// Named figures: final loss, gradient norm, clamped parameters, ….
    public var figures: [String: Double]
    public init(steps: Int, figures: [String: Double] = [:]) {
        self.steps = steps
        self.figures = figures
    }
}

/// What a version says of its round for people, as an event; never part of a state.
public struct Remark: Codable, Equatable, Sendable {
    public enum Kind: String, Codable, Sendable {
        /// Rows that were scored before they were learned are not like those before them.
        case drift
        /// A part of a model says nothing any more.
        case collapse
    }
    public var kind: Kind
    public var text: String
    public init(kind: Kind, text: String) {
        self.kind = kind
        self.text = text
    }
}

/// Which optional phases a method takes part in.
public struct MethodPhases: Codable, Equatable, Sendable {
    public var scores: Bool
    public var statistics: Bool
    public init(scores: Bool, statistics: Bool) {
        self.scores = scores
        self.statistics = statistics
    }
}

/// A question to a posterior, or its answer: a small JSON header and named tensors.
public struct QueryBytes: Sendable {
    public var verb: String
    public var header: JSONValue
    public var tensors: [String: TensorBytes]
    public init(verb: String, header: JSONValue, tensors: [String: TensorBytes] = [:]) {
        self.verb = verb
        self.header = header
        self.tensors = tensors
    }
}

/// A learning method as everything above the numerical layers sees it: bytes in, bytes out. All functions are pure; randomness comes only from `key`.
public protocol OpaqueMethod: Sendable {
    var phases: MethodPhases { get }
    /// Whether inputs may be missing (not a number); false by default.
    var takesMissing: Bool { get }
    func initialState(key: RandomKey) throws(AccrueError) -> Data
    /// The state that a network or posterior from outside is; `state` gives what it does not say.
    /// - Parameter imported: safetensors bytes, as they came.
    /// - Throws: `invalidInput` naming the tensor that does not fit, its shape and the one needed.
    func adopt(_ imported: Data, into state: Data, key: RandomKey) throws(AccrueError) -> Data
    /// The state with what this method's schema has more than `old`: classes of targets.
    /// - Throws: `invalidInput` when the method cannot.
    func adapt(_ state: Data, from old: Schema, key: RandomKey) throws(AccrueError) -> Data
    func begin(_ state: Data, round: Round, key: RandomKey) throws(AccrueError) -> Data
    /// - Parameter shard: the shard's stretches of rows, in log order.
    func fit(_ work: Data, to shard: [Rows], round: Round, key: RandomKey) throws(AccrueError) -> (delta: Data, report: FitReport)
    /// - Parameter deltas: one a shard, in shard order, each with the rows of its shard.
    func merge(_ deltas: [(delta: Data, rows: Int)], into work: Data, round: Round, key: RandomKey) throws(AccrueError) -> Data
    func statistics(of work: Data, on shard: [Rows], round: Round, key: RandomKey) throws(AccrueError) -> Data?
    func score(_ state: Data, on rows: Rows, key: RandomKey) throws(AccrueError) -> Score?
    /// - Parameter moments: one a shard, in shard order; empty for methods without statistics.
    func finish(_ work: Data, round: Round, moments: [Data], scores: Score?, key: RandomKey) throws(AccrueError) -> Data
    /// What is to be said of a state that `finish` made; nothing by default.
    func remarks(on state: Data) throws(AccrueError) -> [Remark]
    func load(_ state: Data) throws(AccrueError) -> any LoadedState
}

extension OpaqueMethod {
    public var takesMissing: Bool { false }
    public func remarks(on state: Data) throws(AccrueError) -> [Remark] { [] }
}

/// A decoded state that answers queries; immutable, used from several threads.
public protocol LoadedState: Sendable {
    func answer(_ query: QueryBytes, key: RandomKey) throws(AccrueError) -> QueryBytes
    /// Answers questions of one key that came together, each with what `answer` gives it alone, bit for bit; one that fails leaves the others alone.
    func answers(_ queries: [QueryBytes], key: RandomKey) -> [Result<QueryBytes, AccrueError>]
    /// Does ahead of the first query what answers with this key need, such as drawing weights.
    /// - Parameter earlier: the version whose place this one takes: what was asked of it will be asked again.
    func prepare(for key: RandomKey, following earlier: (any LoadedState)?) throws(AccrueError)
}

extension LoadedState {
    public func answers(_ queries: [QueryBytes], key: RandomKey) -> [Result<QueryBytes, AccrueError>] {
        queries.map { query in
            do throws(AccrueError) { return .success(try answer(query, key: key)) } catch { return .failure(error) }
        }
    }
    public func prepare(for key: RandomKey, following earlier: (any LoadedState)?) throws(AccrueError) {}
}

/// The methods that an engine knows, by name.
public struct MethodCatalog: Sendable {
    public typealias Make = @Sendable (_ settings: JSONValue, _ schema: Schema) throws(AccrueError) -> any OpaqueMethod
    private let entries: [String: Make]
    public init(_ entries: [String: Make]) { self.entries = entries }
    public var names: [String] { entries.keys.sorted() }

    /// With one method more.
    public func adding(_ name: String, _ make: @escaping Make) -> MethodCatalog { MethodCatalog(entries.merging([name: make]) { $1 }) }

    /// - Returns: a method whose steps throw `diverged` where they make a number that is not finite.
    /// - Throws: `notFound` for an unknown method, `invalidInput` for settings or a schema that the method refuses.
    public func make(_ pipeline: PipelineDeclaration) throws(AccrueError) -> any OpaqueMethod {
        guard let make = entries[pipeline.method] else {
            let close = StrictKeys.nearest(to: pipeline.method, in: names).map { "did you mean '\($0)'? " } ?? ""
            throw AccrueError(
                .notFound, while: "reading pipeline '\(pipeline.name)'", "there is no method '\(pipeline.method)'",
                hint: "\(close)methods are \(names.joined(separator: ", "))")
        }
        let method = try make(pipeline.settings, pipeline.schema)
        if !method.takesMissing, let tensor = pipeline.schema.tensors.first(where: { $0.missing == .nan }) {
            throw AccrueError(
                .invalidInput, while: "reading pipeline '\(pipeline.name)', schema", "'\(tensor.name)' may have missing values, and \(pipeline.method) takes none",
                hint: "leave 'missing' out, and fill in or leave out what is missing before it is pushed")
        }
        return SoundMethod(method: method)
    }
}
