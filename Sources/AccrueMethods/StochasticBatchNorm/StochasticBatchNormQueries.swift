import AccrueBayes
import AccrueCore
import AccrueTensor

/// Which of the chances that training had predictions have too.
enum DrawnNoise: String, CaseIterable, Sendable {
    /// Drawn statistics, and dropout where the settings have it.
    case all
    case batchNorm
    case dropout
    /// Ordinary deterministic batch normalisation.
    case none

    var drawsStatistics: Bool { self == .all || self == .batchNorm }
    var drops: Bool { self == .all || self == .dropout }
    /// Whether it is something of its own only where the settings have dropout.
    var needsDropout: Bool { self == .dropout }
}

/// A network with distributions of its batch statistics, ready for queries.
///
/// `predict` also takes `noise`: all (the default), batchNorm, dropout or none. `moments`: r of every batch norm, channel by channel. `shift`: how far the
/// statistics of some rows are from r, in standard errors.
final class LoadedStochasticBatchNorm: LoadedState {
    private let schema: Schema
    private let design: Design
    private let network: Network
    private let state: StochasticBatchNorm.State
    private let description: JSONValue
    private let posteriors: [DrawnNoise: NetworkPosterior]
    private let flows: @Sendable (NamedTensors, Tensor, RandomKey) throws(AccrueError) -> [String: Moments]

    init(
        schema: Schema, design: Design, network: Network, state: StochasticBatchNorm.State, description: JSONValue, posteriors: [DrawnNoise: NetworkPosterior],
        flows: @escaping @Sendable (NamedTensors, Tensor, RandomKey) throws(AccrueError) -> [String: Moments]
    ) {
        self.schema = schema
        self.design = design
        self.network = network
        self.state = state
        self.description = description
        self.posteriors = posteriors
        self.flows = flows
    }

    func prepare(for key: RandomKey, following earlier: (any LoadedState)?) throws(AccrueError) {
        try posteriors[.all]?.prepare(for: key, following: (earlier as? LoadedStochasticBatchNorm)?.posteriors[.all])
    }

    /// - Throws: `notFound` for other verbs; `invalidInput` for an unknown `noise`, or too few rows for `shift`; what `NetworkPosterior` throws.
    func answer(_ query: QueryBytes, key: RandomKey) throws(AccrueError) -> QueryBytes {
        switch query.verb {
        case "describe": return QueryBytes(verb: query.verb, header: description)
        case PredictQuery.verb:
            let (noise, posterior, question) = try read(query)
            return saying(noise, try posterior.answer(question, key: key))
        case "moments": return try moments(query)
        case "shift": return try shift(query, key: key)
        default: throw PredictQuery.unknown(query.verb, known: ["describe", "moments", PredictQuery.verb, "shift"])
        }
    }

    /// Those with one noise share their passes.
    func answers(_ queries: [QueryBytes], key: RandomKey) -> [Result<QueryBytes, AccrueError>] {
        var results = [Result<QueryBytes, AccrueError>?](repeating: nil, count: queries.count)
        var groups: [DrawnNoise: [(index: Int, question: QueryBytes)]] = [:]
        for (index, query) in queries.enumerated() where query.verb == PredictQuery.verb {
            if let (noise, _, question) = try? read(query) { groups[noise, default: []].append((index, question)) }
        }
        for (noise, group) in groups {
            guard let posterior = posteriors[noise] else { continue }
            for (member, answer) in zip(group, posterior.answers(group.map(\.question), key: key)) { results[member.index] = answer.map { saying(noise, $0) } }
        }
        return zip(queries, results).map { query, result in
            if let result { return result }
            do throws(AccrueError) { return .success(try answer(query, key: key)) } catch { return .failure(error) }
        }
    }

    // MARK: predict

    private func read(_ query: QueryBytes) throws(AccrueError) -> (noise: DrawnNoise, posterior: NetworkPosterior, question: QueryBytes) {
        let operation = "answering 'predict'"
        guard case .object(var fields) = query.header else { throw AccrueError(.invalidInput, while: operation, "expected a mapping of keys to values") }
        var noise = DrawnNoise.all
        if let asked = fields.removeValue(forKey: "noise"), asked != .null {
            guard let known = asked.string.flatMap(DrawnNoise.init) else {
                throw AccrueError(
                    .invalidInput, while: operation, "'noise' is \(asked.canonical)", hint: "choose one of \(DrawnNoise.allCases.map(\.rawValue).joined(separator: ", "))")
            }
            noise = known
        }
        guard let posterior = posteriors[noise] else {
            throw AccrueError(.invalidInput, while: operation, "'noise' is \(noise.rawValue); this pipeline's settings have no dropout", hint: "ask for batchNorm, or set settings.dropout")
        }
        return (noise, posterior, QueryBytes(verb: query.verb, header: .object(fields), tensors: query.tensors))
    }

    /// With what it rests on.
    private func saying(_ noise: DrawnNoise, _ answer: QueryBytes) -> QueryBytes {
        var result = answer
        if case .object(var fields) = answer.header {
            fields["noise"] = .string(noise.rawValue)
            fields["batches"] = .integer(state.moments.batches)
            result.header = .object(fields)
        }
        return result
    }

    // MARK: moments and shift

    /// Tensors NAME.mean, .meanDeviation, .logVariance, .logDeviation, .variance, each [features].
    private func moments(_ query: QueryBytes) throws(AccrueError) -> QueryBytes {
        try StrictKeys.check(query.header, known: [], while: "answering 'moments'")
        var tensors: [String: TensorBytes] = [:]
        for layer in network.batchNorms {
            guard let r = state.moments.distribution(layer.name) else { continue }
            for (what, values) in [
                ("mean", r.mean), ("meanDeviation", r.meanDeviation), ("logVariance", r.logVariance), ("logDeviation", r.logDeviation), ("variance", r.variance),
            ] { tensors["\(layer.name).\(what)"] = TensorBytes(values, shape: [layer.features]) }
        }
        return QueryBytes(
            verb: query.verb, header: ["batch": .integer(state.moments.rows), "batches": .integer(state.moments.batches)], tensors: tensors)
    }

    /// Batches of the rows, in their order, against r: z of a channel is (mean over B batches − m) / (s √(1/B + 1/T)). Without labels a sign of a drift of the
    /// inputs; about 1 where there is none.
    private func shift(_ query: QueryBytes, key: RandomKey) throws(AccrueError) -> QueryBytes {
        let operation = "answering 'shift'"
        try StrictKeys.check(query.header, known: [], while: operation)
        guard state.moments.batches > 1 else {
            throw AccrueError(.unavailable, while: operation, "moments are of \(state.moments.batches) batches; nothing is known of their spread", hint: "push rows to collect moments from")
        }
        let targets = Set(schema.tensors(.target).map(\.name))
        let rows = try design.rows([try Rows(query.tensors.filter { !targets.contains($0.key) }, schema: schema, roles: [.input, .mask], while: operation)])
        let size = state.moments.rows, count = rows.count / size
        guard count > 0 else { throw AccrueError(.invalidInput, while: operation, "\(rows.count) rows; a batch has \(size)", hint: "send at least \(size) rows") }
        var here = BatchMoments(rows: size)
        for batch in 0..<count { here.add(try flows(state.weights, try rows.inputs(batch * size..<(batch + 1) * size), key.folding(batch))) }
        var layers: [JSONValue] = [], tensors: [String: TensorBytes] = [:]
        let share = (1 / Double(count) + 1 / Double(state.moments.batches)).squareRoot()
        for layer in network.batchNorms {
            guard let r = state.moments.distribution(layer.name), let now = here.layers[layer.name]?.mean else { continue }
            func z(_ values: ArraySlice<Double>, _ centre: [Double], _ deviation: [Double]) -> [Double] {
                zip(values, zip(centre, deviation)).map { $1.1 > 0 ? ($0 - $1.0) / ($1.1 * share) : 0 }
            }
            let means = z(now[..<layer.features], r.mean, r.meanDeviation), logs = z(now[layer.features..<2 * layer.features], r.logVariance, r.logDeviation)
            func root(_ values: [Double]) -> Double { (values.reduce(0) { $0 + $1 * $1 } / Double(values.count)).squareRoot() }
            layers.append(["name": .string(layer.name), "mean": .number(root(means)), "logVariance": .number(root(logs))])
            tensors["\(layer.name).mean"] = TensorBytes(means, shape: [layer.features])
            tensors["\(layer.name).logVariance"] = TensorBytes(logs, shape: [layer.features])
        }
        return QueryBytes(verb: query.verb, header: ["batches": .integer(count), "layers": .array(layers)], tensors: tensors)
    }
}
