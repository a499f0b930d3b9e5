public import AccrueCore
import Synchronization

/// A posterior over a network's weights that is ready for queries: `predict` and `describe`.
///
/// Draw i of a key is always the same weights; those of the key that is asked most are kept.
public final class NetworkPosterior: LoadedState {
    public static let drawsStandard = 16

    private let schema: Schema
    private let design: Design
    private let network: Network
    private let likelihood: Likelihood
    private let isPoint: Bool
    private let draw: @Sendable (RandomKey) throws(AccrueError) -> NetworkMember
    private let description: JSONValue
    private struct Kept: Sendable {
        /// Of the key that was prepared for; they stay.
        var prepared: (key: RandomKey, members: [NetworkMember])?
        /// Of another key, the one last asked with.
        var last: (key: RandomKey, members: [NetworkMember])?
        func members(_ key: RandomKey) -> [NetworkMember] { [prepared, last].compactMap(\.self).first { $0.key == key }?.members ?? [] }
    }
    private let kept = Mutex(Kept())

    /// - Parameters:
    ///   - isPoint: all draws are the same weights, so one is enough.
    ///   - description: what `describe` answers.
    ///   - draw: one draw of the weights.
    public init(
        schema: Schema, design: Design, network: Network, likelihood: Likelihood, isPoint: Bool = false, description: JSONValue,
        draw: @escaping @Sendable (RandomKey) throws(AccrueError) -> NetworkMember
    ) {
        self.schema = schema
        self.design = design
        self.network = network
        self.likelihood = likelihood
        self.isPoint = isPoint
        self.description = description
        self.draw = draw
    }

    public func prepare(for key: RandomKey) throws(AccrueError) {
        let members = try members(key, Self.drawsStandard)
        kept.withLock { $0 = Kept(prepared: (key, members)) }
    }

    public func answer(_ query: QueryBytes, key: RandomKey) throws(AccrueError) -> QueryBytes {
        switch query.verb {
        case "describe": return QueryBytes(verb: query.verb, header: description)
        case PredictQuery.verb:
            let request = try PredictQuery.read(query, schema: schema)
            let draws = isPoint ? 1 : request.draws ?? Self.drawsStandard
            let rows = try design.rows([request.rows])
            let predictions = try Predictions(rows, network: network, likelihood: likelihood, members: try members(key, draws))
            return PredictQuery.answer(predictions, request: request, draws: draws, targets: request.hasTargets ? try rows.observed() : nil)
        default: throw PredictQuery.unknown(query.verb, known: ["describe", PredictQuery.verb])
        }
    }

    /// Scores rows with their targets.
    public func score(_ rows: Rows, draws: Int, key: RandomKey) throws(AccrueError) -> Score {
        let rows = try design.rows([rows])
        guard let targets = try rows.observed() else { return Score() }
        return try Predictions(rows, network: network, likelihood: likelihood, members: try members(key, isPoint ? 1 : draws)).score(targets)
    }

    private func members(_ key: RandomKey, _ count: Int) throws(AccrueError) -> [NetworkMember] {
        let wanted = isPoint ? 1 : count
        let known = kept.withLock { $0.members(key) }
        if known.count >= wanted { return Array(known.prefix(wanted)) }
        var members = known
        for index in known.count..<wanted { members.append(try draw(key.folding(index))) }
        if wanted <= Self.drawsStandard { kept.withLock { if $0.prepared?.key != key { $0.last = (key, members) } } }
        return members
    }
}
