import AccrueBayes
public import AccrueCore
import AccrueTensor

// The stored forms of what VarianceNetwork keeps and sends.

extension VarianceNetwork.State {
    public var stored: Safetensors {
        StoredTrees.stored(["weights": weights, "variances": variances, "statistics": statistics], ["method": VarianceNetwork.name])
            .saying(roles: ["weights": .mean, "variances": .variance, "statistics": .batchStatistic])
    }
    public init(_ stored: Safetensors) throws(AccrueError) {
        self.init(
            weights: try NamedTensors(stored, prefix: "weights."), variances: try NamedTensors(stored, prefix: "variances."),
            statistics: try NamedTensors(stored, prefix: "statistics."))
    }
}

extension VarianceNetwork.Work {
    public var stored: Safetensors {
        StoredTrees.stored(["prior.weights": prior.weights, "prior.variances": prior.variances, "prior.statistics": prior.statistics])
            .adding(training.stored.tensors, training.stored.metadata)
    }
    public init(_ stored: Safetensors) throws(AccrueError) {
        self.init(
            prior: .init(
                weights: try NamedTensors(stored, prefix: "prior.weights."), variances: try NamedTensors(stored, prefix: "prior.variances."),
                statistics: try NamedTensors(stored, prefix: "prior.statistics.")),
            training: try AdamTraining(stored))
    }
}

extension VarianceNetwork.Delta {
    public var stored: Safetensors { training.stored }
    public init(_ stored: Safetensors) throws(AccrueError) { self.init(training: try AdamTraining(stored)) }
}

extension ParameterRole {
    /// Variances of weights whose mean is zero.
    static let variance = ParameterRole("variance")
}
