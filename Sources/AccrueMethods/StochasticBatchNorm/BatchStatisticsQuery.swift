import AccrueBayes
import AccrueCore
import AccrueTensor

/// The questions `moments` (r of every batch norm, channel by channel) and `shift` (how far the statistics of some rows are from r, in standard errors).
struct BatchStatisticsQuery: Sendable {
    let schema: Schema
    let design: Design
    let network: Network
    let state: StochasticBatchNorm.State
    /// What flows into the batch norms of one batch, as in training.
    let flows: @Sendable (NamedTensors, Tensor, RandomKey) throws(AccrueError) -> [String: Moments]

    /// By verb, for `NetworkPosterior`.
    var verbs: [String: NetworkPosterior.Verb] {
        ["moments": { (query, _) throws(AccrueError) in try moments(query) }, "shift": { (query, key) throws(AccrueError) in try shift(query, key: key) }]
    }

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
