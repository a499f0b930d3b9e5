import AccrueBayes
import AccrueCore
import AccrueTensor
import Foundation

/// r(u), the distribution of one batch norm's statistics over batches, all channels independent: the mean is N(m, s²), the variance log-normal.
///
/// Fitted by moments, with divisor T − 1. What is lost beside real batches: that a row is part of its own batch, and how mean and variance, channels and
/// layers go together. Source: Atanov et al. 2018 (arXiv 1802.04893), models/stochbn.py of its code.
struct StatisticDistribution: Sendable {
    /// T.
    let batches: Double
    /// E μ_B and its standard deviation over batches, a channel each.
    let mean: [Double]
    let meanDeviation: [Double]
    /// E log v_B and its standard deviation, at most `deviationMax`.
    let logVariance: [Double]
    let logDeviation: [Double]
    /// E v_B.
    let variance: [Double]
    /// Channels whose log variance spreads more than `deviationMax`: such as are dead in some batches.
    let capped: Int
    private let spreadOfMeans: [Double]

    static let deviationMax = 2.0

    /// - Parameter moments: over batches, of means, log variances and variances.
    init(_ moments: Moments) {
        let width = moments.mean.count / 3
        batches = moments.count
        mean = Array(moments.mean[..<width])
        logVariance = Array(moments.mean[width..<2 * width])
        variance = Array(moments.mean[(2 * width)...])
        // Of one batch nothing is known about the spread.
        let divisor = moments.count > 1 ? moments.count - 1 : .infinity
        let deviations = moments.centredSquares.map { (max(0, $0) / divisor).squareRoot() }
        meanDeviation = Array(deviations[..<width])
        let logDeviations = deviations[width..<2 * width]
        logDeviation = logDeviations.map { min($0, Self.deviationMax) }
        capped = logDeviations.count { $0 > Self.deviationMax }
        spreadOfMeans = Array(moments.variances[..<width])
    }

    /// One draw of all channels' statistics.
    func draw(_ key: RandomKey) throws(AccrueError) -> (mean: Tensor, variance: Tensor) {
        let e1 = try key.folding("variance").normal([mean.count], dtype: .f64).doubles(), e2 = try key.folding("mean").normal([mean.count], dtype: .f64).doubles()
        return try Self.tensors(
            mean.indices.map { mean[$0] + meanDeviation[$0] * e2[$0] }, mean.indices.map { Foundation.exp(logVariance[$0] + logDeviation[$0] * e1[$0]) })
    }

    /// The median of r: what draws without spread are, and the deterministic pass of the paper's code.
    func median() throws(AccrueError) -> (mean: Tensor, variance: Tensor) { try Self.tensors(mean, logVariance.map { Foundation.exp($0) }) }

    /// Mean and variance of all rows together, batches of one size: ordinary deterministic batch normalisation.
    func pooled() throws(AccrueError) -> (mean: Tensor, variance: Tensor) { try Self.tensors(mean, zip(variance, spreadOfMeans).map { $0 + $1 }) }

    private static func tensors(_ mean: [Double], _ variance: [Double]) throws(AccrueError) -> (mean: Tensor, variance: Tensor) {
        (try Tensor(mean.map(Float.init), shape: [mean.count]), try Tensor(variance.map(Float.init), shape: [mean.count]))
    }
}
