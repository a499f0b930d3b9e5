import AccrueBayes
public import AccrueCore
import AccrueTensor

// The stored forms of what StochasticBatchNorm keeps and sends.

extension BatchMoments {
    /// PREFIX.NAME: [count, means…, centred squares…] of 3 × features numbers.
    func storedTensors(_ prefix: String) -> [String: TensorBytes] {
        var result: [String: TensorBytes] = [:]
        for (name, moments) in layers { result["\(prefix).\(name)"] = TensorBytes([moments.count] + moments.mean + moments.centredSquares, shape: [1 + 2 * moments.mean.count]) }
        return result
    }

    init(_ stored: Safetensors, _ prefix: String, rows: Int) throws(AccrueError) {
        let operation = "reading batch moments"
        var layers: [String: Moments] = [:]
        for name in stored.tensors.keys.sorted() where name.hasPrefix("\(prefix).") {
            let numbers = try stored.doubles(name, while: operation), width = numbers.count / 2
            guard numbers.count % 2 == 1, width % 3 == 0, width > 0, numbers[0] > 0 else {
                throw AccrueError(.corrupt, while: operation, "'\(name)' has \(numbers.count) numbers, the first \(numbers.first ?? 0)")
            }
            layers[String(name.dropFirst(prefix.count + 1))] = Moments(count: numbers[0], mean: Array(numbers[1...width]), centredSquares: Array(numbers[(width + 1)...]))
        }
        self.init(rows: rows, layers: layers)
    }
}

extension StochasticBatchNorm.State {
    public var stored: Safetensors {
        var more = moments.storedTensors("moments")
        if let scored { more["scored"] = TensorBytes(scored, shape: [scored.count]) }
        return StoredTrees.stored(["weights": weights, "statistics": statistics], ["method": StochasticBatchNorm.name, "batch": String(moments.rows)])
            .adding(more).saying(roles: ["weights": .mean, "statistics": .batchStatistic, "moments": .batchMoments, "scored": .scoredDensity])
    }
    public init(_ stored: Safetensors) throws(AccrueError) {
        self.init(
            weights: try NamedTensors(stored, prefix: "weights."), statistics: try NamedTensors(stored, prefix: "statistics."),
            moments: try BatchMoments(stored, "moments", rows: try StoredTrees.whole("batch", stored)), scored: stored.tensors["scored"]?.doubles())
    }
}

extension StochasticBatchNorm.Work {
    public var stored: Safetensors {
        guard let kept else { return training.stored }
        return training.stored.adding(kept.storedTensors("moments"), ["batch": String(kept.rows)])
    }
    public init(_ stored: Safetensors) throws(AccrueError) {
        let isFrozen = stored.metadata["batch"] != nil
        self.init(training: try AdamTraining(stored), kept: isFrozen ? try BatchMoments(stored, "moments", rows: try StoredTrees.whole("batch", stored)) : nil)
    }
}

extension StochasticBatchNorm.Delta {
    public var stored: Safetensors { training.stored }
    public init(_ stored: Safetensors) throws(AccrueError) { self.init(training: try AdamTraining(stored)) }
}

extension StochasticBatchNorm.Collected {
    public var stored: Safetensors { Safetensors(tensors: moments.storedTensors("moments"), metadata: ["batch": String(moments.rows)]) }
    public init(_ stored: Safetensors) throws(AccrueError) {
        self.init(moments: try BatchMoments(stored, "moments", rows: try StoredTrees.whole("batch", stored)))
    }
}

extension ParameterRole {
    /// Moments over batches of what flows into a batch norm.
    static let batchMoments = ParameterRole("moments of batch statistics")
    /// Mean log predictive densities of the last round's rows before they were learned.
    static let scoredDensity = ParameterRole("log predictive densities")
}
