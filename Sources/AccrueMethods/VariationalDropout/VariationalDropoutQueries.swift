import AccrueBayes
import AccrueCore
import AccrueTensor

extension VariationalDropout {
    /// A posterior ready for queries. Answers come from the pruned mean; asked for a number of draws, from draws of the weights that are kept.
    func posterior(_ state: State) throws(AccrueError) -> NetworkPosterior {
        let expected = try initialState(key: RandomKey(seed: 0))
        for (tree, like) in [(state.mean, expected.mean), (state.logScale, expected.logScale), (state.sites.precision, expected.mean), (state.sites.precisionMean, expected.mean)] {
            try tree.check(against: like, while: "loading a posterior")
        }
        let logAlpha = try LogAlpha.of(network, mean: state.mean, logScale: state.logScale), threshold = settings.threshold
        let mean = try LogAlpha.pruned(state.mean, logAlpha, threshold: threshold)
        let deviation = try LogAlpha.pruned(try state.logScale.map { (scale) throws(AccrueError) in try scale.exp() }, logAlpha, threshold: threshold)
        let query = SparsityQuery(network: network, weights: state.mean, logAlpha: logAlpha, threshold: threshold)
        return NetworkPosterior(
            schema: schema, design: design, network: network, likelihood: settings.likelihood, description: try describe(state),
            centre: NetworkMember(mean), verbs: query.verbs
        ) { (key) throws(AccrueError) in
            var list: [(String, Tensor)] = []
            for (name, tensor) in mean.tensors { list.append((name, try key.folding(name).draw(mean: tensor, deviation: try deviation.tensor(name)))) }
            return NetworkMember(NamedTensors(list))
        }
    }

    func sparsity(_ state: State) throws(AccrueError) -> SparsityReport { try sparsity(mean: state.mean, logScale: state.logScale) }

    func sparsity(mean: NamedTensors, logScale: NamedTensors) throws(AccrueError) -> SparsityReport {
        try SparsityReport(network, logAlpha: try LogAlpha.of(network, mean: mean, logScale: logScale), threshold: settings.threshold)
    }

    private func describe(_ state: State) throws(AccrueError) -> JSONValue {
        let report = try sparsity(state)
        var nats: [String: JSONValue] = [:]
        for layer in network.affineLayers {
            let each = try settings.penalty.nats(
                mean: try state.mean.tensor(layer.weight).cast(to: .f64), logVariance: try state.logScale.tensor(layer.weight).cast(to: .f64) * 2,
                sharedOver: settings.shared(layer))
            nats[layer.name] = .number(try each.sum().item())
        }
        return .object(
            report.summary.merging([
                "method": .string(Self.name), "model": .string(settings.model.kind.rawValue), "penalty": .string(settings.kind.rawValue),
                "group": .string(settings.group.rawValue), "parameters": .integer(state.mean.elementCount), "rowsLearned": .integer(state.rows),
                "reservoirRows": .integer(state.reservoir.count),
                "penaltyNats": .object(nats),
            ]) { $1 })
    }
}
