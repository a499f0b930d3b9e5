import AccrueBayes
import AccrueCore
import AccrueTensor

extension DynamicRouting {
    func describe(_ state: State) throws(AccrueError) -> JSONValue {
        var stages: [JSONValue] = []
        let information = state.usage.information
        for (index, stage) in network.stages.enumerated() {
            var entry: [String: JSONValue] = [
                "name": .string(stage.name), "channels": .integer(stage.channels), "units": .integer(stage.units.count), "steps": .integer(stage.steps),
                "multiplyAddsOfUnit": .integer(stage.units.multiplyAdds(positions: stage.positions)),
            ]
            if let shares = state.usage.shares(stage: index) {
                entry["usage"] = .array(shares.map { .number($0) })
                entry["decisionEntropy"] = .number(RouteInformation.entropy(shares))
            }
            if let information { entry["classInformation"] = .array(information[index].map { .number($0) }) }
            stages.append(.object(entry))
        }
        let skipped = network.skip ? network.stages.indices.map { Double(network.stages[$0].steps) * (state.usage.shares(stage: $0)?.last ?? 0) } : nil
        var result: [String: JSONValue] = [
            "method": .string(Self.name), "routes": .string(settings.routes.rawValue), "evaluation": .string(network.isFixed ? "fixed" : settings.evaluation.rawValue),
            "parameters": .integer(state.weights.elementCount), "steps": .integer(state.steps), "stages": .array(stages),
            "multiplyAdds": .number(network.multiplyAdds(skipped: skipped)), "multiplyAddsOfAll": .number(network.multiplyAddsOfAll),
            "layers": .array(state.weights.tensors.map { ["name": .string($0.name), "shape": .array($0.tensor.shape.map { .integer($0) })] }),
        ]
        // Of the last round's rows, as they were routed for their statistics; `route` says it of any rows, beside what chance gives.
        if let largest = information?.joined().max() { result["classInformation"] = .number(largest) }
        return .object(result)
    }
}

/// A routed network, ready for queries.
///
/// `predict` also takes `route`: hard, soft, masked or gumbel (default the settings' evaluation). `route`: what is chosen for each row at each step, how
/// choices go with classes.
final class LoadedDynamicRouting: LoadedState {
    private let schema: Schema
    private let design: Design
    private let network: RoutedNetwork
    private let standard: DynamicRouting.Evaluation
    private let posteriors: [DynamicRouting.Evaluation: NetworkPosterior]
    private let hard: RoutedPass
    private let description: JSONValue

    init(
        schema: Schema, design: Design, network: RoutedNetwork, standard: DynamicRouting.Evaluation,
        posteriors: [DynamicRouting.Evaluation: NetworkPosterior], hard: RoutedPass, description: JSONValue
    ) {
        self.schema = schema
        self.design = design
        self.network = network
        self.standard = standard
        self.posteriors = posteriors
        self.hard = hard
        self.description = description
    }

    func prepare(for key: RandomKey, following earlier: (any LoadedState)?) throws(AccrueError) {
        try posteriors[standard]?.prepare(for: key, following: (earlier as? LoadedDynamicRouting)?.posteriors[standard])
    }

    /// - Throws: `notFound` for other verbs; `invalidInput` for an unknown `route`, or one that fixed routes do not have; what `NetworkPosterior` throws.
    func answer(_ query: QueryBytes, key: RandomKey) throws(AccrueError) -> QueryBytes {
        switch query.verb {
        case "describe": return QueryBytes(verb: query.verb, header: description)
        case PredictQuery.verb: return try predict(query, key: key)
        case "route": return try route(query, key: key)
        default: throw PredictQuery.unknown(query.verb, known: ["describe", PredictQuery.verb, "route"])
        }
    }

    private func predict(_ query: QueryBytes, key: RandomKey) throws(AccrueError) -> QueryBytes {
        let operation = "answering 'predict'"
        guard case .object(var fields) = query.header else { throw AccrueError(.invalidInput, while: operation, "expected a mapping of keys to values") }
        var evaluation = standard
        if let asked = fields.removeValue(forKey: "route"), asked != .null {
            guard let known = asked.string.flatMap(DynamicRouting.Evaluation.init) else {
                throw AccrueError(
                    .invalidInput, while: operation, "'route' is \(asked.canonical)",
                    hint: "choose one of \(DynamicRouting.Evaluation.allCases.map(\.rawValue).joined(separator: ", "))")
            }
            evaluation = known
        }
        guard let posterior = posteriors[evaluation] else {
            throw AccrueError(.invalidInput, while: operation, "'route' is \(evaluation.rawValue); this pipeline's routes are fixed", hint: "leave 'route' out")
        }
        var answer = try posterior.answer(QueryBytes(verb: query.verb, header: .object(fields), tensors: query.tensors), key: key)
        if case .object(var said) = answer.header {
            said["route"] = .string(network.isFixed ? "fixed" : evaluation.rawValue)
            answer.header = .object(said)
        }
        return answer
    }

    // MARK: route

    private static let rowsAtOnce = 250
    private static let permutationsMax = 100_000

    /// Header: `permutations` (default 1000) of the labels, `summary` (no answers a row). Tensors: the schema's inputs, and its target for what routes say of
    /// classes.
    private func route(_ query: QueryBytes, key: RandomKey) throws(AccrueError) -> QueryBytes {
        let operation = "answering 'route'"
        try StrictKeys.check(query.header, known: ["permutations", "summary", "draws"], while: operation)
        guard !network.isFixed else { throw AccrueError(.invalidInput, while: operation, "this pipeline's routes are fixed: unit t at step t", hint: "ask a pipeline whose settings.routes are learned") }
        let permutations = query.header["permutations"].map { $0.int } ?? 1_000
        guard let permutations, (0...Self.permutationsMax).contains(permutations) else {
            throw AccrueError(.invalidInput, while: operation, "'permutations' is \(query.header["permutations"]?.canonical ?? "?"); it must be a whole number from 0 to \(Self.permutationsMax)")
        }
        let targets = Set(schema.tensors(.target).map(\.name)), hasTargets = query.tensors.keys.contains { targets.contains($0) }
        let rows = try Rows(query.tensors, schema: schema, roles: hasTargets ? [.input, .target, .mask] : [.input, .mask], while: operation)
        guard rows.count <= Limits.queryRowsMax else {
            throw AccrueError(.limitExceeded, while: operation, "\(rows.count) rows; at most \(Limits.queryRowsMax) are allowed", hint: "ask in several queries")
        }
        let prepared = try design.rows([rows])
        var chosen = network.stages.map { stage in [[Int]](repeating: [], count: stage.steps) }
        var probabilities = network.stages.map { stage in [[[Double]]](repeating: [], count: stage.steps) }
        for start in stride(from: 0, to: rows.count, by: Self.rowsAtOnce) {
            let inputs = try prepared.inputs(start..<min(rows.count, start + Self.rowsAtOnce))
            guard let routes = try hard(inputs, .grouped(.hard), temperature: 1, reading: true).routes else { continue }
            for (stage, steps) in routes.chosen.enumerated() {
                for step in steps.indices {
                    chosen[stage][step] += steps[step]
                    probabilities[stage][step] += routes.probabilities[stage][step]
                }
            }
        }
        return answer(query, rows.count, chosen, probabilities, labels: try hasTargets ? prepared.observed()?.map { Int($0) } : nil, permutations: permutations, key: key)
    }

    private func answer(
        _ query: QueryBytes, _ count: Int, _ chosen: [[[Int]]], _ probabilities: [[[[Double]]]], labels: [Int]?, permutations: Int, key: RandomKey
    ) -> QueryBytes {
        var header: [String: JSONValue] = ["rows": .integer(count), "steps": .integer(network.stages.reduce(0) { $0 + $1.steps })]
        var tensors: [String: TensorBytes] = [:], stages: [JSONValue] = [], skipped: [Double] = []
        for (index, stage) in network.stages.enumerated() {
            let choices = network.choices(stage)
            let information = probabilities[index].map(RouteInformation.ofInputs)
            let entropy = probabilities[index].map { rows in rows.reduce(0) { $0 + RouteInformation.entropy($1) } / Double(max(1, rows.count)) }
            stages.append([
                "name": .string(stage.name), "inputInformation": .array(information.map { .number($0) }), "decisionEntropy": .array(entropy.map { .number($0) }),
            ])
            if network.skip { skipped.append(chosen[index].reduce(0) { $0 + Double($1.count { $0 == stage.units.count }) } / Double(max(1, count))) }
            if query.header["summary"]?.bool != true {
                var ids: [Int64] = [], shares: [Double] = []
                for row in 0..<count {
                    for step in 0..<stage.steps {
                        ids.append(Int64(chosen[index][step][row]))
                        shares += probabilities[index][step][row]
                    }
                }
                tensors["\(stage.name).chosen"] = TensorBytes(ids, shape: [count, stage.steps])
                tensors["\(stage.name).probabilities"] = TensorBytes(shares, shape: [count, stage.steps, choices])
            }
        }
        let routes = (0..<count).map { row in chosen.flatMap { $0.map { $0[row] } } }
        header["distinctRoutes"] = .integer(Set(routes).count)
        header["multiplyAdds"] = .number(network.multiplyAdds(skipped: network.skip ? skipped : nil))
        header["multiplyAddsOfAll"] = .number(network.multiplyAddsOfAll)
        header["inputInformation"] = .number(probabilities.joined().map(RouteInformation.ofInputs).max() ?? 0)
        if let labels {
            var usage = RouteUsage(network)
            usage.add(chosen, classes: labels)
            for (name, tensor) in usage.storedTensors { tensors[name] = tensor }
            let found = RouteInformation.ofClasses(
                chosen.flatMap(\.self), choices: network.stages.flatMap { [Int](repeating: network.choices($0), count: $0.steps) }, labels: labels,
                classes: network.classes, permutations: permutations, key: key)
            header["classInformation"] = .number(found.largest)
            header["classInformationOfSteps"] = .array(found.steps.map { .number($0) })
            header["permutations"] = .integer(permutations)
            if permutations > 0 { header["classInformationByChance"] = .number(found.quantile) }
        }
        header["stages"] = .array(stages)
        return QueryBytes(verb: query.verb, header: .object(header), tensors: tensors)
    }
}
