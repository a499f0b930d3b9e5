public import AccrueCore
import AccrueTensor
import Synchronization

/// A posterior over a network's weights that is ready for queries: `predict`, `describe`, and a method's further verbs.
///
/// Draw i of a key is always the same weights; those of the key that is asked most are kept. Answers about at most `DrawnOutputs.fewRows` rows draw the outputs
/// of large dense layers instead, where the method says how: each row's distribution is the same, and the weights need not be read.
public final class NetworkPosterior: LoadedState {
    public static let drawsStandard = 16
    /// Answers one question.
    public typealias Verb = @Sendable (QueryBytes, RandomKey) throws(AccrueError) -> QueryBytes

    private let schema: Schema
    private let design: Design
    private let network: Network
    private let likelihood: Likelihood
    private let source: Source
    private let linearisation: Linearisation?
    private let description: JSONValue
    private let centre: NetworkMember?
    private let verbs: [String: Verb]
    private let kept = Mutex(KeptMembers())

    /// Where the weights of an answer come from.
    private enum Source: Sendable {
        case drawn(@Sendable (RandomKey) throws(AccrueError) -> NetworkMember)
        /// All of them for every answer, whatever number of draws is asked for.
        case given([NetworkMember])
    }

    /// A distribution over weights.
    /// - Parameters:
    ///   - linearisation: outputs are taken as linear around its centre; draws then go its step of their way from there.
    ///   - description: what `describe` answers.
    ///   - centre: the weights that answer when no number of draws is asked for; nil: the standard number of draws.
    ///   - verbs: what else is answered.
    ///   - draw: one draw of the weights.
    public convenience init(
        schema: Schema, design: Design, network: Network, likelihood: Likelihood, linearisation: Linearisation? = nil, description: JSONValue,
        centre: NetworkMember? = nil, verbs: [String: Verb] = [:],
        draw: @escaping @Sendable (RandomKey) throws(AccrueError) -> NetworkMember
    ) {
        self.init(
            schema: schema, design: design, network: network, likelihood: likelihood, linearisation: linearisation, description: description, centre: centre,
            verbs: verbs, source: .drawn(draw))
    }

    /// A network, or an ensemble whose members count alike.
    /// - Parameters:
    ///   - description: what `describe` answers.
    ///   - members: at least one.
    ///   - verbs: what else is answered.
    public convenience init(
        schema: Schema, design: Design, network: Network, likelihood: Likelihood, description: JSONValue, members: [NetworkMember], verbs: [String: Verb] = [:]
    ) {
        self.init(
            schema: schema, design: design, network: network, likelihood: likelihood, linearisation: nil, description: description, centre: nil, verbs: verbs,
            source: .given(members))
    }

    private init(
        schema: Schema, design: Design, network: Network, likelihood: Likelihood, linearisation: Linearisation?, description: JSONValue,
        centre: NetworkMember?, verbs: [String: Verb], source: Source
    ) {
        self.schema = schema
        self.design = design
        self.network = network
        self.likelihood = likelihood
        self.linearisation = linearisation
        self.description = description
        self.centre = centre
        self.verbs = verbs
        self.source = source
    }

    /// Draws weights for this key, once, so that no query waits for it: as many as were asked of the earlier version, and at least the standard number.
    public func prepare(for key: RandomKey, following earlier: (any LoadedState)?) throws(AccrueError) {
        kept.withLock { $0.prepare(for: key) }
        let asked = (earlier as? NetworkPosterior)?.kept.withLock { $0.asked } ?? 0
        _ = try members(key, centre == nil ? max(Self.drawsStandard, asked) : asked)
    }

    /// How many draws for a key need not be made any more.
    public func drawn(for key: RandomKey) -> Int { kept.withLock { $0.members(key).count } }

    /// Answers `predict`, `describe` and the further verbs.
    /// - Throws: `notFound` for other verbs; `invalidInput`, `limitExceeded` and `diverged` as `PredictQuery` and `Predictions` say.
    public func answer(_ query: QueryBytes, key: RandomKey) throws(AccrueError) -> QueryBytes {
        switch query.verb {
        case "describe": return QueryBytes(verb: query.verb, header: description)
        case PredictQuery.verb:
            let question = try read(query)
            let predictions = try Predictions(question.rows, network: network, likelihood: likelihood, members: try asked(question.draws, key))
            return try question.answer(predictions)
        default:
            guard let verb = verbs[query.verb] else { throw PredictQuery.unknown(query.verb, known: (["describe", PredictQuery.verb] + verbs.keys).sorted()) }
            return try verb(query, key)
        }
    }

    /// Answers questions that came together; those with as many draws, drawn alike, share one pass over the draws.
    public func answers(_ queries: [QueryBytes], key: RandomKey) -> [Result<QueryBytes, AccrueError>] {
        var results = [Result<QueryBytes, AccrueError>?](repeating: nil, count: queries.count)
        // A lone one is read when it is answered, not before.
        for group in queries.count > 1 ? groups(queries) : [] where group.count > 1 {
            // What goes wrong for the group is found again, and told, question by question.
            guard let answers = try? together(group.map(\.question), key: key) else { continue }
            for (member, answer) in zip(group, answers) { results[member.index] = answer }
        }
        return zip(queries, results).map { query, result in
            if let result { return result }
            do throws(AccrueError) { return .success(try answer(query, key: key)) } catch { return .failure(error) }
        }
    }

    /// Scores rows with their targets.
    /// - Parameter draws: nil: as a question that names none.
    public func score(_ rows: Rows, draws: Int?, key: RandomKey) throws(AccrueError) -> Score {
        let rows = try design.rows([rows])
        guard let targets = try rows.observed() else { return Score() }
        return try Predictions(rows, network: network, likelihood: likelihood, members: try members(key, standard(draws))).score(targets)
    }

    // MARK: questions

    /// A question that was understood.
    private struct Question {
        let request: PredictQuery.Request
        /// 0: the centre.
        let draws: Int
        let rows: DesignRows

        func answer(_ predictions: Predictions) throws(AccrueError) -> QueryBytes {
            // The centre is a point estimate.
            PredictQuery.answer(predictions, request: request, draws: max(1, draws), targets: request.hasTargets ? try rows.observed() : nil)
        }
    }

    private func read(_ query: QueryBytes) throws(AccrueError) -> Question {
        let request = try PredictQuery.read(query, schema: schema)
        return Question(request: request, draws: standard(request.draws), rows: try design.rows([request.rows]))
    }

    private func standard(_ draws: Int?) -> Int { used(draws ?? (centre == nil ? Self.drawsStandard : 0)) }

    /// Questions that can share a pass: of as many draws, in the same form, and together of no more rows than go through a network at once.
    private func groups(_ queries: [QueryBytes]) -> [[(index: Int, question: Question)]] {
        struct Kind: Hashable {
            let draws: Int
            let hasFewRows: Bool
        }
        var groups: [Kind: [(index: Int, question: Question)]] = [:]
        var rows: [Kind: Int] = [:]
        for (index, query) in queries.enumerated() where query.verb == PredictQuery.verb {
            guard let question = try? read(query) else { continue }
            let kind = Kind(draws: question.draws, hasFewRows: question.rows.count <= DrawnOutputs.fewRows)
            guard rows[kind, default: 0] + question.rows.count <= DrawnOutputs.rowsAtOnce else { continue }
            rows[kind, default: 0] += question.rows.count
            groups[kind, default: []].append((index, question))
        }
        return Array(groups.values)
    }

    /// Answers from one pass over the draws; nil where a row's outputs would depend on the rows beside it.
    private func together(_ questions: [Question], key: RandomKey) throws(AccrueError) -> [Result<QueryBytes, AccrueError>]? {
        let members = try asked(questions.first?.draws ?? 0, key)
        guard DrawnOutputs.keepsRowsApart(members) else { return nil }
        var parts: [Tensor] = []
        for question in questions { parts.append(try question.rows.inputs(0..<question.rows.count)) }
        let outputs = try DrawnOutputs(try .concatenated(parts), ofQuestion: questions.map(\.rows.count).max(), network: network, members: members)
        var start = 0
        return questions.map { question in
            let range = start..<start + question.rows.count
            start = range.upperBound
            do throws(AccrueError) {
                return .success(try question.answer(try Predictions(outputs, range, question.rows, likelihood: likelihood, members: members)))
            } catch { return .failure(error) }
        }
    }

    // MARK: draws

    /// How many members an answer is made of that asks for so many draws.
    private func used(_ draws: Int) -> Int { if case .given(let members) = source { members.count } else { draws } }

    private func asked(_ draws: Int, _ key: RandomKey) throws(AccrueError) -> PreparedMembers {
        let members = try members(key, draws)
        kept.withLock { $0.note(draws, key) }
        return members
    }

    /// - Parameter count: 0: the centre alone.
    private func members(_ key: RandomKey, _ count: Int) throws(AccrueError) -> PreparedMembers {
        if count == 0, let centre {
            let member = try kept.withLock { (kept) throws(AccrueError) in try kept.centre(centre, network: network, likelihood: likelihood) }
            return PreparedMembers(draws: [member], linearisation: linearisation)
        }
        let wanted = used(count)
        var members = kept.withLock { $0.members(key) }
        if members.count >= wanted { return PreparedMembers(draws: Array(members.prefix(wanted)), linearisation: linearisation) }
        for index in members.count..<wanted {
            let member: NetworkMember
            switch source {
            case .drawn(let draw): member = try draw(key.folding(index))
            case .given(let all): member = all[index]
            }
            members.append(try PreparedMember(member, network: network, likelihood: likelihood))
        }
        kept.withLock { $0.keep(members, key) }
        return PreparedMembers(draws: members, linearisation: linearisation)
    }
}

/// The draws that stay for the next question: those of the key that was prepared for, and of the other key last asked with.
private struct KeptMembers: Sendable {
    /// Bytes of weights that stay beyond the standard number of draws, a key.
    private static let bytesMax = 128 << 20

    private var prepared: (key: RandomKey, members: [PreparedMember])?
    /// The most draws asked for with the prepared key, of those that stay.
    private(set) var asked = 0
    private var last: (key: RandomKey, members: [PreparedMember])?

    private var centre: PreparedMember?

    mutating func centre(_ member: NetworkMember, network: Network, likelihood: Likelihood) throws(AccrueError) -> PreparedMember {
        if let centre { return centre }
        let prepared = try PreparedMember(member, network: network, likelihood: likelihood)
        centre = prepared
        return prepared
    }

    func members(_ key: RandomKey) -> [PreparedMember] { [prepared, last].compactMap(\.self).first { $0.key == key }?.members ?? [] }

    mutating func prepare(for key: RandomKey) {
        if prepared?.key != key { prepared = (key, members(key)) }
    }

    mutating func note(_ draws: Int, _ key: RandomKey) {
        guard let prepared, prepared.key == key else { return }
        asked = max(asked, min(draws, prepared.members.count))
    }

    mutating func keep(_ members: [PreparedMember], _ key: RandomKey) {
        var bytes = 0
        let fitting = members.enumerated().prefix { index, member in
            bytes += member.byteCount
            return index < NetworkPosterior.drawsStandard || bytes <= Self.bytesMax
        }
        guard fitting.count > self.members(key).count else { return }
        let kept = fitting.map(\.element)
        if prepared?.key == key { prepared = (key, kept) } else { last = (key, kept) }
    }
}
