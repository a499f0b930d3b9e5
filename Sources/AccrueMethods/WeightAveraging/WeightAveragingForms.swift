public import AccrueCore
import AccrueBayes
import AccrueTensor

// The stored forms of what WeightAveraging keeps and sends.

extension WeightAveraging.State {
    public var stored: Safetensors {
        StoredTrees.stored(
            ["average": average, "statistics": statistics, "weights": weights], ["method": WeightAveraging.name, "collected": String(collected)]
        ).saying(roles: ["average": .mean, "statistics": .batchStatistic, "weights": .optimiser])
    }
    public init(_ stored: Safetensors) throws(AccrueError) {
        self.init(
            average: try NamedTensors(stored, prefix: "average."), statistics: try NamedTensors(stored, prefix: "statistics."),
            weights: try NamedTensors(stored, prefix: "weights."), collected: try StoredTrees.whole("collected", stored))
    }
}

extension WeightAveraging.Work {
    public var stored: Safetensors { StoredTrees.stored(["average": average, "weights": weights], ["collected": String(collected)]) }
    public init(_ stored: Safetensors) throws(AccrueError) {
        self.init(
            average: try NamedTensors(stored, prefix: "average."), weights: try NamedTensors(stored, prefix: "weights."),
            collected: try StoredTrees.whole("collected", stored))
    }
}

extension WeightAveraging.Delta {
    public var stored: Safetensors {
        var trees = ["weights": weights]
        trees["average"] = average
        return StoredTrees.stored(trees, ["collected": String(collected)])
    }
    public init(_ stored: Safetensors) throws(AccrueError) {
        self.init(
            weights: try NamedTensors(stored, prefix: "weights."), average: try StoredTrees.optional("average.", stored),
            collected: try StoredTrees.whole("collected", stored))
    }
}
