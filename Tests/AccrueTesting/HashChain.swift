public import AccrueCore
public import Foundation

/// A method whose state shows exactly what was folded, in which order, with which keys: the sum and number of all values, and a hash over
/// everything a step was given. Two histories that differ anywhere differ in their bytes.
public struct HashChain: OpaqueMethod {
    public struct State: Codable, Equatable, Sendable {
        public var sum: Double
        public var count: Int
        public var chain: String
    }

    public var phases: MethodPhases { MethodPhases(scores: true, statistics: true) }
    private let poison: Double?
    private let schema: Schema

    /// What cannot be imported.
    public static let refused = Data("not this one".utf8)

    /// - Parameters:
    ///   - poison: a value whose presence in a shard makes the fit fail.
    ///   - schema: of the pipeline; shows in versions that adapt to it.
    public init(poison: Double? = nil, schema: Schema = HashChain.schema) {
        self.poison = poison
        self.schema = schema
    }

    public func initialState(key: RandomKey) throws(AccrueError) -> Data { encode(State(sum: 0, count: 0, chain: hash("initial", key))) }

    /// What was counted before stays; the chain goes on with the file.
    public func adopt(_ imported: Data, into state: Data, key: RandomKey) throws(AccrueError) -> Data {
        if imported == Self.refused { throw AccrueError(.invalidInput, while: "importing", "it says '\(String(decoding: imported, as: UTF8.self))'") }
        var state = try decode(state)
        state.chain = hash("adopt", state.chain, ContentHash(of: imported), key)
        return encode(state)
    }

    public func adapt(_ state: Data, from old: Schema, key: RandomKey) throws(AccrueError) -> Data {
        func classes(_ schema: Schema) -> String { schema.tensors.compactMap { $0.classes?.joined(separator: ",") }.joined(separator: ";") }
        if classes(schema).contains("none of these") { throw AccrueError(.invalidInput, while: "appending classes", "the class 'none of these' is taken") }
        var state = try decode(state)
        state.chain = hash("adapt", state.chain, classes(old), classes(schema), key)
        return encode(state)
    }

    public func begin(_ state: Data, round: Round, key: RandomKey) throws(AccrueError) -> Data {
        var work = try decode(state)
        work.chain = hash("begin", work.chain, round.index, round.isFirst, round.shards, round.roundRows, round.rowsBefore, key)
        return encode(work)
    }

    public func fit(_ work: Data, to shard: [Rows], round: Round, key: RandomKey) throws(AccrueError) -> (delta: Data, report: FitReport) {
        let values = Self.values(shard)
        if let poison, values.contains(poison) { throw AccrueError(.diverged, while: "fitting shard \(round.shard)", "the shard holds \(poison)") }
        let chain = hash(
            "fit", try decode(work).chain, round.index, round.sweep, round.sweeps, round.shard, round.shards, round.shardRows, round.sweepKey, values, key)
        return (encode(State(sum: values.reduce(0, +), count: values.count, chain: chain)), FitReport(steps: values.count))
    }

    public func merge(_ deltas: [(delta: Data, rows: Int)], into work: Data, round: Round, key: RandomKey) throws(AccrueError) -> Data {
        var result = try decode(work)
        for (delta, rows) in deltas {
            let part = try decode(delta)
            // Every sweep sees all rows; only the first may count them.
            if round.sweep == 0 { result.sum += part.sum; result.count += part.count }
            result.chain = hash("merge", result.chain, part.chain, rows, round.sweep, key)
        }
        return encode(result)
    }

    public func statistics(of work: Data, on shard: [Rows], round: Round, key: RandomKey) throws(AccrueError) -> Data? {
        encode(State(sum: 0, count: 0, chain: hash("statistics", try decode(work).chain, round.shard, Self.values(shard), key)))
    }

    public func score(_ state: Data, on rows: Rows, key: RandomKey) throws(AccrueError) -> Score? {
        var score = Score()
        let state = try decode(state)
        for value in Self.values([rows]) { score.add(error: value - state.sum, logDensity: Double(key.low % 1000) / 1000, covered: true) }
        return score
    }

    public func finish(_ work: Data, round: Round, moments: [Data], scores: Score?, key: RandomKey) throws(AccrueError) -> Data {
        var state = try decode(work)
        for part in moments { state.chain = hash("moments", state.chain, try decode(part).chain) }
        state.chain = hash("finish", state.chain, scores.map { "\($0.rows) \($0.squaredError) \($0.logDensity)" } ?? "none", key)
        return encode(state)
    }

    public func load(_ state: Data) throws(AccrueError) -> any LoadedState { Loaded(state: try decode(state)) }

    /// Reads a state back, for assertions.
    public func decode(_ bytes: Data) throws(AccrueError) -> State { try JSONValue(parsing: bytes).decode(while: "reading a hash chain") }

    private struct Loaded: LoadedState {
        let state: State
        func answer(_ query: QueryBytes, key: RandomKey) throws(AccrueError) -> QueryBytes {
            QueryBytes(verb: query.verb, header: ["sum": .number(state.sum), "count": .integer(state.count), "chain": .string(state.chain)])
        }

        /// As `answer`; to 'together' it adds with how many a question was answered.
        func answers(_ queries: [QueryBytes], key: RandomKey) -> [Result<QueryBytes, AccrueError>] {
            queries.map { query in
                do throws(AccrueError) {
                    var answer = try answer(query, key: key)
                    if query.verb == "together", case .object(var fields) = answer.header {
                        fields["together"] = .integer(queries.count)
                        answer.header = .object(fields)
                    }
                    return .success(answer)
                } catch { return .failure(error) }
            }
        }
    }

    private func encode(_ state: State) -> Data {
        Data(JSONValue.object(["sum": .number(state.sum), "count": .integer(state.count), "chain": .string(state.chain)]).canonical.utf8)
    }

    private static func values(_ shard: [Rows]) -> [Double] { shard.flatMap { $0.tensors["values"]?.doubles() ?? [] } }

    private func hash(_ parts: Any...) -> String {
        ContentHash(of: Data(parts.map { "\($0)" }.joined(separator: "|").utf8)).hex
    }
}

extension HashChain {
    public static let schema = Schema([TensorSchema("values", role: .input, dtype: .f64, shape: [])])

    /// With a target of classes, which the method does not read.
    public static func schema(classes: [String]) -> Schema {
        Schema(schema.tensors + [TensorSchema("labels", role: .target, dtype: .u8, shape: [], classes: classes)])
    }

    public static func rows(_ values: [Double]) throws(AccrueError) -> Rows {
        try Rows(["values": TensorBytes(values, shape: [values.count])], schema: schema, while: "making test rows")
    }

    public static func pipeline(
        name: String = "chain", seed: UInt64 = 1, chunks: Int = 2, shards: Int = 1, sweeps: Int = 1, replicas: Int? = nil
    ) -> PipelineDeclaration {
        PipelineDeclaration(
            name: name, method: "HashChain", seed: seed, schema: schema, settings: [:], round: .init(chunks: chunks), shards: shards, sweeps: sweeps,
            replicas: replicas)
    }
}
