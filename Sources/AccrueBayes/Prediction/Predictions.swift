public import AccrueCore
public import AccrueTensor

/// One draw from a posterior over a network's weights, or its only weights.
public struct NetworkMember: Sendable {
    public let weights: NamedTensors
    public let statistics: BatchStatistics
    public init(_ weights: NamedTensors, statistics: BatchStatistics = [:]) {
        self.weights = weights
        self.statistics = statistics
    }
}

/// What members say about rows, row by row.
public enum Predictions: Sendable {
    case classes([ClassPrediction])
    case numbers([RegressionPrediction])

    /// Rows that go through the network at once; part of what makes answers repeatable.
    private static let rowsAtOnce = 250

    /// - Throws: `invalidInput` for no members; `diverged` when an output is not finite.
    public init(_ rows: DesignRows, network: Network, likelihood: Likelihood, members: [NetworkMember]) throws(AccrueError) {
        guard !members.isEmpty else { throw AccrueError(.invalidInput, while: "predicting", "there are no draws", hint: "use at least one draw") }
        var classes: [ClassPrediction] = [], numbers: [RegressionPrediction] = []
        var noise = 0.0
        for member in members { noise += try likelihood.noiseVariance(member.weights) / Double(members.count) }
        for start in stride(from: 0, to: rows.count, by: Self.rowsAtOnce) {
            let inputs = try rows.inputs(start..<min(rows.count, start + Self.rowsAtOnce))
            var each: [Tensor] = []
            for member in members {
                var pass = PlainPass(member.weights, statistics: member.statistics)
                each.append(try network.apply(inputs, &pass))
            }
            // [draws, rows, outputs]
            let outputs = try Tensor.stacked(each).cast(to: .f64)
            guard try outputs.isFinite() else {
                throw AccrueError(.diverged, while: "predicting", "an output is not finite", hint: "check the inputs, or ask an earlier version")
            }
            switch likelihood {
            case .softmax: classes += try Self.classes(logits: outputs)
            case .bernoulli: classes += try Self.classes(logits: try .concatenated([try outputs.zerosLike(), outputs], dim: 2))
            case .gaussian: numbers += try Self.numbers(outputs, noise: noise).map(rows.targetScale.own)
            }
        }
        if case .gaussian = likelihood { self = .numbers(numbers) } else { self = .classes(classes) }
    }

    private static func classes(logits: Tensor) throws(AccrueError) -> [ClassPrediction] {
        let logs = try logits.logSoftmax(2)
        let probabilities = try logs.exp()
        let mean = try probabilities.mean(0).doubles(), expected = try (probabilities * logs).sum(2).mean(0).doubles()
        let shape = logits.shape
        return (0..<shape[1]).map { row in
            let probabilities = Array(mean[row * shape[2]..<(row + 1) * shape[2]])
            let total = ClassPrediction.entropy(probabilities)
            // With one draw the two are equal but for rounding.
            return ClassPrediction(probabilities: probabilities, totalEntropy: total, expectedEntropy: shape[0] == 1 ? total : -expected[row])
        }
    }

    private static func numbers(_ outputs: Tensor, noise: Double) throws(AccrueError) -> [RegressionPrediction] {
        let values = try outputs.doubles(), draws = outputs.shape[0], count = outputs.shape[1]
        return (0..<count).map { row in
            var moments = Moments(dimension: 1)
            for draw in 0..<draws { moments.add([values[draw * count + row]]) }
            return RegressionPrediction(mean: moments.mean[0], aleatoricVariance: noise, epistemicVariance: moments.variances[0])
        }
    }

    /// The rows' score against their targets [rows] (class numbers or numbers).
    public func score(_ targets: [Double]) -> Score {
        var score = Score()
        switch self {
        case .classes(let predictions): for (prediction, target) in zip(predictions, targets) { score.add(prediction, target: Int(target)) }
        case .numbers(let predictions): for (prediction, target) in zip(predictions, targets) { score.add(prediction, target: target) }
        }
        return score
    }

    /// Named tensors for an answer: `probabilities` [rows, classes], `totalEntropy`, `aleatoric`, `epistemic` (nats); or `mean`, `aleatoric`,
    /// `epistemic` (standard deviations), `lower`, `upper` (central 90 % interval).
    public var tensors: [String: TensorBytes] {
        func column(_ values: [Double]) -> TensorBytes { TensorBytes(values, shape: [values.count]) }
        switch self {
        case .classes(let rows):
            return [
                "probabilities": TensorBytes(rows.flatMap(\.probabilities), shape: [rows.count, rows.first?.probabilities.count ?? 0]),
                "totalEntropy": column(rows.map(\.totalEntropy)), "aleatoric": column(rows.map(\.expectedEntropy)),
                "epistemic": column(rows.map(\.mutualInformation)),
            ]
        case .numbers(let rows):
            return [
                "mean": column(rows.map(\.mean)), "aleatoric": column(rows.map { $0.aleatoricVariance.squareRoot() }),
                "epistemic": column(rows.map { $0.epistemicVariance.squareRoot() }), "lower": column(rows.map(\.interval.lowerBound)),
                "upper": column(rows.map(\.interval.upperBound)),
            ]
        }
    }

    /// What can be said of the rows together without their targets.
    public var summary: [String: JSONValue] {
        switch self {
        case .classes(let rows):
            let n = Double(max(1, rows.count))
            return [
                "meanTotalEntropy": .number(rows.reduce(0) { $0 + $1.totalEntropy } / n),
                "meanEpistemic": .number(rows.reduce(0) { $0 + $1.mutualInformation } / n),
            ]
        case .numbers(let rows): return ["meanEpistemic": .number(rows.reduce(0) { $0 + $1.epistemicVariance } / Double(max(1, rows.count)))]
        }
    }
}
