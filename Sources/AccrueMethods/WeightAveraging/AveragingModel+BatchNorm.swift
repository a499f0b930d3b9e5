import AccrueBayes
import AccrueCore
import AccrueTensor

extension AveragingModel {
    /// Adds what flows into each batch norm in a training-mode pass of weights over a shard.
    /// - Parameter prefix: of the layers' names.
    func addFlow(_ weights: NamedTensors, on shard: [Rows], round: Round, prefix: String = "", to flow: inout BatchFlow) throws(AccrueError) {
        try flow.add(try design.rows(shard), batch: settings.batch, round: round, prefix: prefix) { (inputs, _) throws(AccrueError) in
            var pass = BatchFlowPass(weights)
            _ = try network.apply(inputs, &pass)
            return pass.flows
        }
    }

    /// Weights with the statistics that they are served with.
    func member(_ weights: NamedTensors, _ statistics: NamedTensors) throws(AccrueError) -> NetworkMember {
        try weights.check(against: try initialWeights(key: RandomKey(seed: 0)), while: "loading averaged weights")
        return NetworkMember(weights, statistics: try network.statistics(statistics))
    }
}
