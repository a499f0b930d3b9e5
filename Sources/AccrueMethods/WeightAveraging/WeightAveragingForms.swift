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

extension WeightAveraging.Flow {
    public var stored: Safetensors {
        var tensors: [String: TensorBytes] = [:]
        for (name, moments) in layers {
            let width = moments.mean.count
            tensors[name] = TensorBytes([moments.count] + moments.mean + moments.centredSquares, shape: [1 + 2 * width])
        }
        return Safetensors(tensors: tensors)
    }
    public init(_ stored: Safetensors) throws(AccrueError) {
        layers = [:]
        for name in stored.tensors.keys.sorted() {
            let numbers = try stored.doubles(name, while: "reading batch statistics")
            guard numbers.count % 2 == 1 else { throw AccrueError(.corrupt, while: "reading batch statistics", "'\(name)' has \(numbers.count) numbers") }
            let width = numbers.count / 2
            layers[name] = Moments(count: numbers[0], mean: Array(numbers[1...width]), centredSquares: Array(numbers[(width + 1)...]))
        }
    }
}
