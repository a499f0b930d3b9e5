import AccrueBayes
import AccrueCore
import AccrueTensor

/// The questions `replaceable` (which weights may be replaced by their expectations, with what doing so costs where targets come along) and `attack` (accuracy on
/// inputs that are moved against the averaged prediction).
struct VarianceLayerQuery: Sendable {
    let schema: Schema
    let design: Design
    let network: Network
    let likelihood: Likelihood
    let state: VarianceNetwork.State
    /// Those whose weights have mean zero.
    let layers: [Layer.Affine]
    /// One draw with these variances.
    let draw: @Sendable (NamedTensors, RandomKey) throws(AccrueError) -> NetworkMember

    /// By verb, for `NetworkPosterior`.
    var verbs: [String: NetworkPosterior.Verb] {
        ["replaceable": { (query, key) throws(AccrueError) in try replaceable(query, key: key) }, "attack": { (query, key) throws(AccrueError) in try attack(query, key: key) }]
    }

    private static let rowsMax = 2_000
    private static let rowsAtOnce = 250

    /// Rows of a question, as the network reads them, with targets where they came along.
    private func rows(_ query: QueryBytes, _ operation: String) throws(AccrueError) -> DesignRows {
        let targets = Set(schema.tensors(.target).map(\.name)), given = query.tensors.keys.contains { targets.contains($0) }
        let rows = try Rows(query.tensors, schema: schema, roles: given ? [.input, .target, .mask] : [.input, .mask], while: operation)
        guard rows.count <= Self.rowsMax else {
            throw AccrueError(.limitExceeded, while: operation, "\(rows.count) rows; at most \(Self.rowsMax) are allowed", hint: "send fewer, for example with --rows")
        }
        return try design.rows([rows])
    }

    private func members(_ variances: NamedTensors, _ count: Int, key: RandomKey) throws(AccrueError) -> [NetworkMember] {
        try (0..<count).map { (index) throws(AccrueError) in try draw(variances, key.folding(index)) }
    }

    /// Header: `tau` (nats, default 0.01), `draws` (default 8). Tensors NAME.change: quantiles of Δ, 0 %, 1 %, … 100 %.
    private func replaceable(_ query: QueryBytes, key: RandomKey) throws(AccrueError) -> QueryBytes {
        let operation = "answering 'replaceable'"
        let reader = try SettingsReader(query.header, known: ["tau", "draws"], path: "header", while: operation)
        let tau = try reader.number("tau", default: 0.01, in: 0...1e6), draws = try reader.whole("draws", default: 8, in: 1...256)
        guard !layers.isEmpty else { throw AccrueError(.invalidInput, while: operation, "there are no variance layers: noise is dropout", hint: "ask a pipeline with noise: variance") }
        let rows = try rows(query, operation), statistics = try network.statistics(state.statistics)
        // Kernels are drawn whole here: a gradient by a weight needs the weight.
        var drawn: [NetworkMember] = []
        for index in 0..<draws {
            var list: [(String, Tensor)] = state.weights.tensors.map { ($0.name, $0.tensor) }
            for (name, variance) in state.variances.tensors { list.append((name, try variance.squareRoot() * (try key.folding(index).folding(name).normal(variance.shape)))) }
            drawn.append(NetworkMember(NamedTensors(list), statistics: statistics))
        }
        var sums: NamedTensors?
        for start in stride(from: 0, to: rows.count, by: Self.rowsAtOnce) {
            let end = min(rows.count, start + Self.rowsAtOnce), share = Double(end - start) / Double(rows.count)
            let part = try ReplaceableWeights(
                try rows.inputs(start..<end), network: network, likelihood: likelihood, statistics: statistics, variances: state.variances, draws: drawn,
                key: key.folding("rows").folding(start)
            ).changes.map { (change) throws(AccrueError) in try change * share }
            sums = try sums.map { (sum) throws(AccrueError) in try sum.zip(part) { (a, b) throws(AccrueError) in try a + b[0] } } ?? part
        }
        let found = ReplaceableWeights(changes: sums ?? NamedTensors())
        let (frozen, counts) = try found.frozen(state.variances, tau: tau)
        var list: [JSONValue] = [], tensors: [String: TensorBytes] = [:]
        for layer in layers {
            let values = try found.changes.tensor(layer.weight).doubles().sorted(), count = counts[layer.weight] ?? 0
            list.append([
                "name": .string(layer.name), "weights": .integer(values.count), "replaceable": .integer(count),
                "share": .number(Double(count) / Double(values.count)), "change": .number(values.reduce(0, +)),
            ])
            tensors["\(layer.name).change"] = TensorBytes((0...100).map { values[(values.count - 1) * $0 / 100] }, shape: [101])
        }
        var header: [String: JSONValue] = ["layers": .array(list), "tau": .number(tau), "draws": .integer(draws)]
        if rows.targets != nil {
            // The truth: what the averaged prediction loses, a row.
            let drawnDensity = try density(rows, state.variances, draws, key: key)
            header["logPredictiveDensity"] = .number(drawnDensity)
            header["lossOfReplacing"] = .number(drawnDensity - (try density(rows, frozen, draws, key: key)))
            header["lossOfReplacingAll"] = .number(drawnDensity - (try density(rows, try state.variances.zeros(), draws, key: key)))
        }
        return QueryBytes(verb: query.verb, header: .object(header), tensors: tensors)
    }

    /// Mean log predictive density of the rows' averaged prediction, nats.
    private func density(_ rows: DesignRows, _ variances: NamedTensors, _ draws: Int, key: RandomKey) throws(AccrueError) -> Double {
        let members = try members(variances, draws, key: key)
        var sum = 0.0
        for start in stride(from: 0, to: rows.count, by: Self.rowsAtOnce) {
            let batch = try rows.batch(start..<min(rows.count, start + Self.rowsAtOnce))
            sum += try network.logDensities(batch.inputs, batch.targets, likelihood: likelihood, members: members).cast(to: .f64).sum().item()
        }
        return sum / Double(rows.count)
    }

    // MARK: attack

    /// Header: `epsilons` (default 0, .01, .02, .05, .1, .2, .3, in units of the network's inputs), `draws` (default 16), `steps` (default 1), `summary` (no answers a
    /// row). Inputs stay in the range that the question's own have. The attacked prediction and the scored one have draws of different keys. Tensor `correct`
    /// [rows, epsilons], of classes alone: 1 where the class is still the likeliest.
    private func attack(_ query: QueryBytes, key: RandomKey) throws(AccrueError) -> QueryBytes {
        let operation = "answering 'attack'"
        let reader = try SettingsReader(query.header, known: ["epsilons", "draws", "steps", "summary"], path: "header", while: operation)
        let draws = try reader.whole("draws", default: 16, in: 1...256), steps = try reader.whole("steps", default: 1, in: 1...100)
        let isSummary = try reader.flag("summary", default: false)
        var epsilons = [0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3]
        if let asked = query.header["epsilons"] {
            let numbers = asked.array?.compactMap(\.double) ?? []
            guard let list = asked.array, !list.isEmpty, numbers.count == list.count, numbers.allSatisfy({ $0 >= 0 && $0.isFinite }) else {
                throw AccrueError(.invalidInput, while: operation, "'epsilons' is \(asked.canonical); it must be a list of numbers from 0", hint: "for example [0, 0.1]")
            }
            epsilons = numbers
        }
        let rows = try rows(query, operation)
        guard let targets = try rows.observed() else {
            let names = schema.tensors(.target).map(\.name).joined(separator: ", ")
            throw AccrueError(.invalidInput, while: operation, "the rows have no targets", hint: "send the tensor \(names) too")
        }
        let all = try rows.inputs(0..<rows.count), most = try all.largest().item(), least = -(try all.negated().largest().item())
        let attackers = try members(state.variances, draws, key: key.folding("attack")), scored = try members(state.variances, draws, key: key.folding("score"))
        let prepared = try scored.map { (member) throws(AccrueError) in try PreparedMember(member, network: network, likelihood: likelihood) }
        let isOfClasses = if case .gaussian = likelihood { false } else { true }
        var list: [JSONValue] = [], correct = [UInt8](repeating: 0, count: rows.count * epsilons.count)
        for (column, epsilon) in epsilons.enumerated() {
            let attack = SignAttack(epsilon: epsilon, steps: steps, range: least...max(least, most))
            var score = Score()
            for start in stride(from: 0, to: rows.count, by: Self.rowsAtOnce) {
                let end = min(rows.count, start + Self.rowsAtOnce), batch = try rows.batch(start..<end)
                let moved = try attack.attacked(batch.inputs, batch.targets, network: network, likelihood: likelihood, members: attackers)
                let predictions = try Predictions(moved, of: rows, start..<end, network: network, likelihood: likelihood, members: prepared)
                score.merge(predictions.score(Array(targets[start..<end])))
                guard case .classes(let found) = predictions else { continue }
                for (row, one) in zip(start..<end, found) where one.likeliest == Int(targets[row]) { correct[row * epsilons.count + column] = 1 }
            }
            list.append(.object(["epsilon": .number(epsilon)].merging(score.figures.mapValues { .number($0) }) { $1 }))
        }
        return QueryBytes(
            verb: query.verb, header: ["attacks": .array(list), "draws": .integer(draws), "steps": .integer(steps), "rows": .integer(rows.count)],
            tensors: isOfClasses && !isSummary ? ["correct": TensorBytes(correct, shape: [rows.count, epsilons.count])] : [:])
    }
}
