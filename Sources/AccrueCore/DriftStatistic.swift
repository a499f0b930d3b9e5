import Foundation

/// Whether what arrives is still what was learned: log predictive densities of rows before they are learned, part by part, against those before.
///
/// Two statistics, both fed by the honest score of a part under the version before it. The z-score asks whether this part is worse than the reference,
/// an average over earlier parts that forgets: (reference − here) / √(s²/n + s²/N), s² the variance over rows, n and N the rows of the part and the reference
/// (at most `rowsMax`). Page and Hinkley's test sums small drops: U ← max(0, U + (reference − here)/s − tolerance), which rises only while parts stay worse.
/// Source: Page, "Continuous inspection schemes" (Biometrika 1954). That parts, not rows, are its steps is this project's.
///
/// A learning curve that still rises makes both low, so the first parts raise no alarm.
public struct DriftStatistic: Codable, Equatable, Sendable {
    /// Rows that the reference stands for at most: older parts are forgotten beyond.
    public static let rowsMax = 100_000.0
    /// In standard deviations over rows; drops below it do not add up.
    public static let tolerance = 0.05

    /// Of the reference: rows, mean (nats a row), variance over rows.
    public private(set) var rows = 0.0
    public private(set) var mean = 0.0
    public private(set) var variance = 0.0
    /// U of Page and Hinkley.
    public private(set) var pageHinkley = 0.0
    /// Of the last part; 0 before there is a reference. Positive: worse than before.
    public private(set) var zScore = 0.0

    public init() {}

    public init(rows: Double, mean: Double, variance: Double, pageHinkley: Double, zScore: Double) {
        self.rows = rows
        self.mean = mean
        self.variance = variance
        self.pageHinkley = pageHinkley
        self.zScore = zScore
    }

    /// Takes in the score of a part.
    /// - Returns: whether it tells of a drift: z or Page–Hinkley at or beyond its threshold. The reference is then the part alone, so that one change
    ///   is one alarm.
    public mutating func observe(_ score: Score, zThreshold: Double, pageHinkleyThreshold: Double) -> Bool {
        guard score.rows > 0 else { return false }
        let n = Double(score.rows), here = score.logDensity / n
        let spread = max(score.logDensitySquared / n - here * here, 1e-12)
        guard rows > 0 else {
            (rows, mean, variance) = (n, here, spread)
            return false
        }
        let deviation = max(variance, 1e-12).squareRoot(), drop = mean - here
        zScore = drop / (deviation * (1 / n + 1 / rows).squareRoot())
        pageHinkley = max(0, pageHinkley + drop / deviation - Self.tolerance)
        if zScore >= zThreshold || pageHinkley >= pageHinkleyThreshold {
            (rows, mean, variance, pageHinkley) = (n, here, spread, 0)
            return true
        }
        // A curve that rose, beyond noise, is the new reference at once: a fall back from it is a drop.
        let kept = zScore <= -2 ? 0 : min(rows, Self.rowsMax), total = kept + n
        let delta = here - mean
        variance = (kept * variance + n * spread + kept * n / total * delta * delta) / total
        mean += delta * n / total
        rows = total
        return false
    }
}
