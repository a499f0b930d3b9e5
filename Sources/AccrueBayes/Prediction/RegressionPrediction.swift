public import AccrueCore
import Foundation

/// A Gaussian prediction of one number, with its variance split in two.
public struct RegressionPrediction: Equatable, Sendable {
    public let mean: Double
    /// Variance of the noise, target units squared.
    public let aleatoricVariance: Double
    /// Variance of the mean under the posterior.
    public let epistemicVariance: Double

    public init(mean: Double, aleatoricVariance: Double, epistemicVariance: Double) {
        self.mean = mean
        self.aleatoricVariance = aleatoricVariance
        self.epistemicVariance = epistemicVariance
    }

    /// Of draws from a posterior: the law of total variance.
    /// - Parameter draws: mean and noise variance a draw; at least one.
    /// - Throws: `invalidInput` for no draws.
    public init(draws: [(mean: Double, variance: Double)]) throws(AccrueError) {
        guard !draws.isEmpty else { throw AccrueError(.invalidInput, while: "predicting a number", "there are no draws", hint: "use at least one draw") }
        var moments = Moments(dimension: 1)
        var noise = 0.0
        for draw in draws {
            moments.add([draw.mean])
            noise += draw.variance / Double(draws.count)
        }
        self.init(mean: moments.mean[0], aleatoricVariance: noise, epistemicVariance: moments.variances[0])
    }

    /// Of a row's only output, draw after draw.
    init(_ outputs: DrawnOutputs, row: Int, noise: Double) {
        var moments = Moments(dimension: 1)
        for draw in 0..<outputs.draws { moments.add([outputs[draw, row, 0]]) }
        self.init(mean: moments.mean[0], aleatoricVariance: noise, epistemicVariance: moments.variances[0])
    }

    public var standardDeviation: Double { (aleatoricVariance + epistemicVariance).squareRoot() }

    /// The standard normal quantile of 0.95.
    private static let quantile95 = 1.6448536269514722

    /// Whether mean and variances are numbers, and not infinite.
    public var isFinite: Bool { mean.isFinite && aleatoricVariance.isFinite && epistemicVariance.isFinite }

    /// The central 90 % interval; of what is no prediction at all everything.
    public var interval: ClosedRange<Double> {
        let half = Self.quantile95 * standardDeviation
        guard mean.isFinite, half >= 0 else { return -.infinity ... .infinity }
        return (mean - half)...(mean + half)
    }

    /// ln N(target; mean, total variance), nats.
    public func logDensity(of target: Double) -> Double {
        let variance = aleatoricVariance + epistemicVariance
        let error = target - mean
        return -0.5 * (log(2 * .pi * variance) + error * error / variance)
    }
}

extension Score {
    public mutating func add(_ prediction: RegressionPrediction, target: Double) {
        add(
            error: target - prediction.mean, logDensity: prediction.logDensity(of: target), covered: prediction.interval.contains(target),
            epistemicVariance: prediction.epistemicVariance)
    }
}
