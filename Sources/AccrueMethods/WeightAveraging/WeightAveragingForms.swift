import AccrueBayes
import AccrueCore
import AccrueTensor

// The stored forms of what the posteriors of weight averaging keep and send.

extension PointAverage.State {
    var stored: Safetensors {
        StoredTrees.stored(
            ["average": average, "statistics": statistics, "weights": weights], ["method": WeightAveraging.name, "collected": String(collected)]
        ).saying(roles: ["average": .mean, "statistics": .batchStatistic, "weights": .optimiser])
    }
    init(_ stored: Safetensors) throws(AccrueError) {
        self.init(
            average: try NamedTensors(stored, prefix: "average."), statistics: try NamedTensors(stored, prefix: "statistics."),
            weights: try NamedTensors(stored, prefix: "weights."), collected: try StoredTrees.whole("collected", stored))
    }
}

extension PointAverage.Work {
    var stored: Safetensors { StoredTrees.stored(["average": average, "weights": weights], ["collected": String(collected)]) }
    init(_ stored: Safetensors) throws(AccrueError) {
        self.init(
            average: try NamedTensors(stored, prefix: "average."), weights: try NamedTensors(stored, prefix: "weights."),
            collected: try StoredTrees.whole("collected", stored))
    }
}

extension PointAverage.Delta {
    var stored: Safetensors {
        var trees = ["weights": weights]
        trees["average"] = average
        return StoredTrees.stored(trees, ["collected": String(collected)])
    }
    init(_ stored: Safetensors) throws(AccrueError) {
        self.init(
            weights: try NamedTensors(stored, prefix: "weights."), average: try StoredTrees.optional("average.", stored),
            collected: try StoredTrees.whole("collected", stored))
    }
}

extension SnapshotGaussian.State {
    var stored: Safetensors {
        var result = StoredTrees.stored(["weights": weights], ["method": WeightAveraging.name, "posterior": posterior.rawValue])
        result.tensors.merge(moments.storedTensors) { $1 }
        return result.saying(roles: [
            "mean": .mean, "centredSquares": .centredSquares, "newest": .collectedWeights, "count": .count, "shares": .count, "weights": .optimiser,
        ])
    }
    init(_ stored: Safetensors) throws(AccrueError) {
        guard let posterior = stored.metadata["posterior"].flatMap(WeightAveraging.Posterior.init(rawValue:)) else {
            throw AccrueError(.corrupt, while: "reading a posterior", "metadata 'posterior' is missing", hint: "these bytes belong to another method")
        }
        self.init(posterior: posterior, moments: try SnapshotMoments(stored), weights: try NamedTensors(stored, prefix: "weights."))
    }
}

extension SnapshotGaussian.Delta {
    var stored: Safetensors {
        var result = StoredTrees.stored(["weights": weights], ["shard": String(shard)])
        result.tensors.merge(moments.storedTensors) { $1 }
        return result
    }
    init(_ stored: Safetensors) throws(AccrueError) {
        self.init(
            shard: try StoredTrees.whole("shard", stored), moments: try SnapshotMoments(stored), weights: try NamedTensors(stored, prefix: "weights."))
    }
}

extension GeometricEnsemble.State {
    var stored: Safetensors {
        var trees = StoredTrees.numbered("members", members).merging(StoredTrees.numbered("statistics", statistics)) { $1 }
        trees["weights"] = weights
        let numbers = ["members": String(members.count), "collected": String(collected)]
        return StoredTrees.stored(trees, numbers.merging(["method": WeightAveraging.name, "posterior": WeightAveraging.Posterior.fge.rawValue]) { $1 })
            .saying(roles: ["members": .collectedWeights, "statistics": .batchStatistic, "weights": .optimiser])
    }
    init(_ stored: Safetensors) throws(AccrueError) {
        let count = try StoredTrees.whole("members", stored)
        guard count > 0 else { throw AccrueError(.corrupt, while: "reading a posterior", "there are \(count) members") }
        self.init(
            members: try StoredTrees.numbered("members", count, stored), statistics: try StoredTrees.numbered("statistics", count, stored),
            weights: try NamedTensors(stored, prefix: "weights."), collected: try StoredTrees.whole("collected", stored))
    }
}

extension GeometricEnsemble.Work {
    var stored: Safetensors {
        var trees = StoredTrees.numbered("members", members)
        trees["weights"] = weights
        return StoredTrees.stored(trees, ["members": String(members.count), "collected": String(collected)])
    }
    init(_ stored: Safetensors) throws(AccrueError) {
        self.init(
            members: try StoredTrees.numbered("members", try StoredTrees.whole("members", stored), stored),
            weights: try NamedTensors(stored, prefix: "weights."), collected: try StoredTrees.whole("collected", stored))
    }
}

extension GeometricEnsemble.Delta {
    var stored: Safetensors {
        var trees = StoredTrees.numbered("members", members)
        trees["weights"] = weights
        return StoredTrees.stored(trees, ["members": String(members.count), "shard": String(shard)])
    }
    init(_ stored: Safetensors) throws(AccrueError) {
        self.init(
            shard: try StoredTrees.whole("shard", stored), members: try StoredTrees.numbered("members", try StoredTrees.whole("members", stored), stored),
            weights: try NamedTensors(stored, prefix: "weights."))
    }
}

extension ParameterRole {
    /// Sums of squared deviations from the mean.
    static let centredSquares = ParameterRole("sum of squared deviations")
    /// Weights as they were at some step.
    static let collectedWeights = ParameterRole("collected weights")
    /// How many collected weights a sum is over, or what one is counted as.
    static let count = ParameterRole("count")
}
