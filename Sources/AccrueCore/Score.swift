import Foundation

/// Sums over scored rows from which every prequential figure follows; merging adds them, in order, in Float64.
///
/// Classification fills `correct`, `brier` and the calibration bins; regression fills `squaredError` and `covered`.
public struct Score: Codable, Equatable, Sendable {
    public static let binCount = 15
    public var rows = 0
    /// Sum of log predictive densities, nats.
    public var logDensity = 0.0
    public var logDensitySquared = 0.0
    public var classified = 0
    public var correct = 0
    /// Sum of Brier scores (sum over classes of squared differences).
    public var brier = 0.0
    /// Per equal-width confidence bin: rows, sum of confidences, correct rows.
    public var binRows = [Int](repeating: 0, count: Score.binCount)
    public var binConfidence = [Double](repeating: 0, count: Score.binCount)
    public var binCorrect = [Int](repeating: 0, count: Score.binCount)
    public var regressed = 0
    public var squaredError = 0.0
    /// Regression rows whose target lies in the central 90 % interval.
    public var covered = 0
    public var totalEntropy = 0.0
    /// Sum of mutual informations (classes) or epistemic variances (regression).
    public var epistemic = 0.0
    /// Sums of log predictive densities (nats) of the same rows, or of some of them, under predictions that the method also tried, by its names for them; nil
    /// where none were.
    public var otherDensities: [String: Double]?

    public init() {}

    /// Adds one classified row.
    /// - Parameters: probabilities: mean class probabilities; mutualInformation: nats.
    public mutating func add(probabilities: [Double], target: Int, totalEntropy: Double = 0, mutualInformation: Double = 0) {
        rows += 1
        classified += 1
        var best = 0
        for (index, p) in probabilities.enumerated() {
            if p > probabilities[best] { best = index }
            let difference = p - (index == target ? 1 : 0)
            brier += difference * difference
        }
        let confidence = probabilities[best]
        let bin = min(Score.binCount - 1, max(0, Int(confidence * Double(Score.binCount))))
        binRows[bin] += 1
        binConfidence[bin] += confidence
        if best == target { correct += 1; binCorrect[bin] += 1 }
        let log = Foundation.log(max(probabilities[target], 1e-300))
        logDensity += log
        logDensitySquared += log * log
        self.totalEntropy += totalEntropy
        epistemic += mutualInformation
    }

    /// Adds one regression row (one target number).
    public mutating func add(error: Double, logDensity log: Double, covered isCovered: Bool, epistemicVariance: Double = 0) {
        rows += 1
        regressed += 1
        squaredError += error * error
        if isCovered { covered += 1 }
        logDensity += log
        logDensitySquared += log * log
        epistemic += epistemicVariance
    }

    public mutating func merge(_ other: Score) {
        rows += other.rows
        logDensity += other.logDensity
        logDensitySquared += other.logDensitySquared
        classified += other.classified
        correct += other.correct
        brier += other.brier
        for bin in 0..<Score.binCount {
            binRows[bin] += other.binRows[bin]
            binConfidence[bin] += other.binConfidence[bin]
            binCorrect[bin] += other.binCorrect[bin]
        }
        regressed += other.regressed
        squaredError += other.squaredError
        covered += other.covered
        totalEntropy += other.totalEntropy
        epistemic += other.epistemic
        if let more = other.otherDensities { otherDensities = (otherDensities ?? [:]).merging(more, uniquingKeysWith: +) }
    }

    public var isFinite: Bool {
        let sums = [logDensity, logDensitySquared, brier, squaredError, totalEntropy, epistemic] + binConfidence + (otherDensities ?? [:]).values
        return sums.allSatisfy(\.isFinite)
    }

    /// The figures, by name: accuracy, logPredictiveDensity, brier, ece, meanTotalEntropy, meanEpistemic; rmse, coverage.
    public var figures: [String: Double] {
        guard rows > 0 else { return [:] }
        var result = ["logPredictiveDensity": logDensity / Double(rows), "meanEpistemic": epistemic / Double(rows)]
        if classified > 0 {
            let n = Double(classified)
            result["accuracy"] = Double(correct) / n
            result["brier"] = brier / n
            result["meanTotalEntropy"] = totalEntropy / n
            result["ece"] = (0..<Score.binCount).reduce(0) { $0 + abs(binConfidence[$1] - Double(binCorrect[$1])) } / n
        }
        if regressed > 0 {
            result["rmse"] = (squaredError / Double(regressed)).squareRoot()
            result["coverage"] = Double(covered) / Double(regressed)
        }
        return result
    }
}
