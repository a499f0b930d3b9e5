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
