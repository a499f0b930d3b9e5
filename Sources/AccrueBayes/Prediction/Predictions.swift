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
            var outputs: [Tensor] = []
            for member in members {
                var pass = PlainPass(member.weights, statistics: member.statistics)
                let output = try network.apply(inputs, &pass).cast(to: .f64)
                guard try output.isFinite() else {
                    throw AccrueError(.diverged, while: "predicting", "an output is not finite", hint: "check the inputs, or ask an earlier version")
                }
                outputs.append(output)
            }
            switch likelihood {
            case .softmax: classes += try Self.classes(outputs)
            case .bernoulli:
                var logits: [Tensor] = []
                for output in outputs { logits.append(try .concatenated([try output.zerosLike(), output], dim: 1)) }
                classes += try Self.classes(logits)
            case .gaussian: numbers += try Self.numbers(outputs, noise: noise).map(rows.targetScale.own)
            }
        }
        if case .gaussian = likelihood { self = .numbers(numbers) } else { self = .classes(classes) }
    }

    private static func classes(_ logits: [Tensor]) throws(AccrueError) -> [ClassPrediction] {
        let share = 1 / Double(logits.count)
        var mean: Tensor?, expected: Tensor?
        for logit in logits {
            let logs = try logit.logSoftmax(1)
            let probabilities = try logs.exp()
            let entropy = try (probabilities * logs).sum(1) * -share
            let part = try probabilities * share
            if let sum = mean { mean = try sum + part } else { mean = part }
            if let sum = expected { expected = try sum + entropy } else { expected = entropy }
        }
        guard let mean, let expected else { return [] }
        let flat = try mean.doubles(), entropies = try expected.doubles()
        let count = mean.shape[1]
        return entropies.enumerated().map { row, entropy in
            let probabilities = Array(flat[row * count..<(row + 1) * count])
            let total = ClassPrediction.entropy(probabilities)
            // With one draw the two are equal but for rounding.
            return ClassPrediction(probabilities: probabilities, totalEntropy: total, expectedEntropy: logits.count == 1 ? total : entropy)
        }
    }

    private static func numbers(_ outputs: [Tensor], noise: Double) throws(AccrueError) -> [RegressionPrediction] {
        var columns: [[Double]] = []
        for output in outputs { columns.append(try output.doubles()) }
        return columns[0].indices.map { row in
            var moments = Moments(dimension: 1)
            for column in columns { moments.add([column[row]]) }
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
