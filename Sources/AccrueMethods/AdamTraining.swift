import AccrueBayes
import AccrueCore
import AccrueTensor

/// Where a round's training with Adam stands. It travels in a round's work and comes back in deltas; merging takes means by rows of weights, of the
/// optimiser's moments and of the average over the round's tail (local SGD: exact for one step, approximate for several).
struct AdamTraining: Sendable {
    var weights: NamedTensors
    /// Adam's running means of the gradient and of its square.
    var first: NamedTensors
    var second: NamedTensors
    /// Steps that made them.
    var steps = 0
    /// Mean of the weights after the round's tail so far, of `averaged` steps.
    var average: NamedTensors?
    var averaged = 0

    /// At a round's beginning.
    init(from weights: NamedTensors) throws(AccrueError) {
        self.weights = weights
        first = try weights.zeros()
        second = try weights.zeros()
    }

    /// What is served: the average, where there is one.
    var result: NamedTensors { average ?? weights }

    /// A sweep on one shard.
    /// - Parameter pull: a Gaussian prior's part, strength · (weights − centre), added to every gradient.
    /// - Throws: what `TrainingLoop.run` throws.
    func fitted(
        _ loop: TrainingLoop, pull: (centre: NamedTensors, strength: NamedTensors)? = nil, rows: DesignRows, round: Round, key: RandomKey,
        gradient: (NamedTensors, Batch, RandomKey) throws(AccrueError) -> (value: Tensor, gradient: NamedTensors)
    ) throws(AccrueError) -> (AdamTraining, FitReport) {
        let outcome = try loop.run(
            weights, Adam(first: first, second: second, steps: steps, pull: pull), rows: rows, round: round, key: key, gradient: gradient)
        var result = self
        result.weights = outcome.weights
        result.first = outcome.optimiser.first
        result.second = outcome.optimiser.second
        result.steps = outcome.optimiser.steps
        // Of this sweep alone.
        result.average = outcome.average
        result.averaged = outcome.averaged
        return (result, outcome.report)
    }

    /// Its weights and their average, each changed alike.
    func changed(_ change: (NamedTensors) throws(AccrueError) -> NamedTensors) throws(AccrueError) -> AdamTraining {
        var result = self
        result.weights = try change(weights)
        result.average = try average.map(change)
        return result
    }

    /// After a sweep, from what its shards came to.
    func merged(_ shards: [Weighted<AdamTraining>]) throws(AccrueError) -> AdamTraining {
        func mean(_ part: (AdamTraining) -> NamedTensors) throws(AccrueError) -> NamedTensors {
            try shards.map { Weighted(part($0.value), rows: $0.rows) }.mean()
        }
        var result = self
        result.weights = try mean(\.weights)
        result.first = try mean(\.first)
        result.second = try mean(\.second)
        result.steps = shards.first?.value.steps ?? steps
        let parts = shards.compactMap { shard in shard.value.average.map { Weighted($0, rows: shard.rows) } }
        guard parts.count == shards.count, let here = shards.first?.value.averaged else { return result }
        // All shards take the same steps, so all averages are of equally many.
        result.average = try parts.tailMean(of: here, after: average, of: averaged)
        result.averaged = averaged + here
        return result
    }
}

extension [Weighted<NamedTensors>] {
    /// The shards' means over `steps` more steps, by rows, joined to what stood before, the mean of `stepsBefore`.
    func tailMean(of steps: Int, after before: NamedTensors?, of stepsBefore: Int) throws(AccrueError) -> NamedTensors {
        let here = try mean()
        guard let before else { return here }
        return try [Weighted(before, rows: stepsBefore), Weighted(here, rows: steps)].mean()
    }
}

// MARK: stored form

extension AdamTraining: StoredValue {
    var stored: Safetensors {
        var trees = ["weights": weights, "first": first, "second": second]
        trees["average"] = average
        return StoredTrees.stored(trees, ["steps": String(steps), "averaged": String(averaged)])
    }

    init(_ stored: Safetensors) throws(AccrueError) {
        weights = try NamedTensors(stored, prefix: "weights.")
        first = try NamedTensors(stored, prefix: "first.")
        second = try NamedTensors(stored, prefix: "second.")
        steps = try StoredTrees.whole("steps", stored)
        average = try StoredTrees.optional("average.", stored)
        averaged = try StoredTrees.whole("averaged", stored)
    }
}
