import AccrueBayes
import AccrueCore
import Foundation
import Testing

@Suite("Uncertainty, split")
struct PredictionTests {
    @Test("draws that agree are aleatoric, draws that contradict each other are epistemic")
    func split() throws {
        let noisy = try ClassPrediction(draws: [[0.5, 0.5], [0.5, 0.5]])
        #expect(abs(noisy.expectedEntropy - log(2)) < 1e-12 && noisy.mutualInformation < 1e-12)
        let divided = try ClassPrediction(draws: [[1, 0], [0, 1]])
        #expect(divided.probabilities == [0.5, 0.5] && divided.expectedEntropy == 0 && abs(divided.mutualInformation - log(2)) < 1e-12)
    }

    @Test("a probability that is not finite is a divergence, no draws are refused")
    func refused() {
        #expect { try ClassPrediction(draws: [[.nan, 1]]) } throws: { ($0 as? AccrueError)?.code == .diverged }
        #expect { try ClassPrediction(draws: []) } throws: { ($0 as? AccrueError)?.code == .invalidInput }
        #expect { try RegressionPrediction(draws: []) } throws: { ($0 as? AccrueError)?.code == .invalidInput }
    }

    @Test("variances of draws follow the law of total variance")
    func totalVariance() throws {
        let prediction = try RegressionPrediction(draws: [(1, 0.5), (3, 1.5)])
        #expect(prediction == RegressionPrediction(mean: 2, aleatoricVariance: 1, epistemicVariance: 1))
        #expect(abs(prediction.interval.upperBound - (2 + 1.6448536269514722 * 2.0.squareRoot())) < 1e-12)
    }

    @Test("predictions scored in parts and merged are the whole")
    func scores() {
        let prediction = RegressionPrediction(mean: 0, aleatoricVariance: 1, epistemicVariance: 0)
        let targets = [0.0, 1, -1.6, 1.7]
        var whole = Score(), left = Score(), right = Score()
        for (index, target) in targets.enumerated() {
            whole.add(prediction, target: target)
            if index < 2 { left.add(prediction, target: target) } else { right.add(prediction, target: target) }
        }
        left.merge(right)
        #expect(left.rows == 4 && left.covered == 3 && abs(left.logDensity - whole.logDensity) < 1e-12)
        let squares = targets.reduce(0) { $0 + $1 * $1 }
        #expect(abs(whole.logDensity - -(2 * log(2 * .pi) + squares / 2)) < 1e-12)
    }
}
