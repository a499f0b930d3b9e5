public import AccrueCore
import Foundation

/// What draws from a posterior say about the class of one row, with its uncertainty split in two. Entropies in nats.
public struct ClassPrediction: Equatable, Sendable {
    /// Mean over the draws, `[classes]`.
    public let probabilities: [Double]
    /// Entropy of the mean: aleatoric plus epistemic.
    public let totalEntropy: Double
    /// Mean over the draws of the entropy: noise that no further data removes.
    public let expectedEntropy: Double

    /// Entropy of the mean minus mean entropy: what the draws disagree about; never negative.
    public var mutualInformation: Double { max(0, totalEntropy - expectedEntropy) }

    /// The class of the largest mean probability, the first of equals.
    public var likeliest: Int { probabilities.indices.max { probabilities[$0] < probabilities[$1] } ?? 0 }

    public init(probabilities: [Double], totalEntropy: Double, expectedEntropy: Double) {
        self.probabilities = probabilities
        self.totalEntropy = totalEntropy
        self.expectedEntropy = expectedEntropy
    }

    /// - Parameter draws: class probabilities, `[draws][classes]`, at least one draw.
    /// - Throws: `diverged` when a probability is not finite; `invalidInput` for no draws or unequal numbers of classes.
    public init(draws: [[Double]]) throws(AccrueError) {
        guard let first = draws.first, draws.allSatisfy({ $0.count == first.count }) else {
            throw AccrueError(.invalidInput, while: "predicting a class", "\(draws.count) draws with classes \(Set(draws.map(\.count)).sorted())", hint: "use at least one draw")
        }
        var mean = [Double](repeating: 0, count: first.count)
        var expected = 0.0
        for draw in draws {
            guard draw.allSatisfy(\.isFinite) else {
                throw AccrueError(.diverged, while: "predicting a class", "a probability is not finite", hint: "roll back to an earlier version")
            }
            for index in mean.indices { mean[index] += draw[index] / Double(draws.count) }
            expected += Self.entropy(draw) / Double(draws.count)
        }
        probabilities = mean
        totalEntropy = Self.entropy(mean)
        expectedEntropy = expected
    }

    /// Of a row's logits, draw after draw, in one pass.
    /// - Parameter isBinary: outputs are logits of the second of two classes.
    init(_ outputs: DrawnOutputs, row: Int, isBinary: Bool) {
        let classes = isBinary ? 2 : outputs.outputs, draws = Double(outputs.draws)
        var mean = [Double](repeating: 0, count: classes), logits = mean, shares = mean
        var expected = 0.0
        for draw in 0..<outputs.draws {
            if isBinary { logits[1] = outputs[draw, row, 0] } else { for index in 0..<classes { logits[index] = outputs[draw, row, index] } }
            let largest = logits.max() ?? 0
            var sum = 0.0, product = 0.0
            for index in 0..<classes {
                logits[index] -= largest
                shares[index] = exp(logits[index])
                sum += shares[index]
                product += shares[index] * logits[index]
            }
            // −Σ p ln p with p = share / sum.
            expected += log(sum) - product / sum
            for index in 0..<classes { mean[index] += shares[index] / sum }
        }
        probabilities = mean.map { $0 / draws }
        totalEntropy = Self.entropy(probabilities)
        // With one draw the two are equal but for rounding.
        expectedEntropy = outputs.draws == 1 ? totalEntropy : expected / draws
    }

    /// −Σ p ln p.
    public static func entropy(_ probabilities: [Double]) -> Double {
        probabilities.reduce(0) { $1 > 0 ? $0 - $1 * log($1) : $0 }
    }
}

extension Score {
    public mutating func add(_ prediction: ClassPrediction, target: Int) {
        add(
            probabilities: prediction.probabilities, target: target, totalEntropy: prediction.totalEntropy,
            mutualInformation: prediction.mutualInformation)
    }
}
