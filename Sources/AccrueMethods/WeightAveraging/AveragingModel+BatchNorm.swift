import AccrueBayes
import AccrueCore
import AccrueTensor

extension AveragingModel {
    /// Adds what flows into each batch norm in a training-mode pass of weights over a shard.
    /// - Parameter prefix: of the layers' names.
    func addFlow(_ weights: NamedTensors, on shard: [Rows], round: Round, prefix: String = "", to flow: inout BatchFlow) throws(AccrueError) {
        let rows = try design.rows(shard)
        // The same batch size on every shard; a short last batch would have other statistics and is left out.
        let size = min(settings.batch, round.roundRows / round.shards)
        for start in stride(from: 0, through: rows.count - size, by: size) {
            if round.shouldStop() { throw AccrueError(.unavailable, while: "recomputing batch statistics", "the work was stopped") }
            var pass = BatchFlowPass(weights)
            _ = try network.apply(try rows.inputs(start..<start + size), &pass)
            flow.add(pass.flows, prefix: prefix)
        }
    }

    /// Weights with the statistics that they are served with.
    func member(_ weights: NamedTensors, _ statistics: NamedTensors) throws(AccrueError) -> NetworkMember {
        try weights.check(against: try initialWeights(key: RandomKey(seed: 0)), while: "loading averaged weights")
        return NetworkMember(weights, statistics: try network.statistics(statistics))
    }
}
