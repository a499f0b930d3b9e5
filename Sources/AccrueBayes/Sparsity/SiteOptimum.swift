import Foundation

/// The best q = N(μ, σ²) of one weight whose likelihood is the Gaussian factor N(ȳ; w, e), under a sparsity penalty: minimises
/// ((ȳ − μ)² + σ²) / (2e) + penalty.
///
/// For automatic relevance in closed form: v = max(0, ȳ² − e), μ = ȳ v/ȳ², σ² = e v/ȳ², α = e/v; the weight is dead, with no width at all, when ȳ² ≤ e.
public enum SiteOptimum {
    /// - Parameters:
    ///   - precision: λ = 1/e of the factor.
    ///   - precisionMean: η = ȳ/e.
    /// - Returns: nil when nothing is learned of the weight, or it is dead and the best width is none (or any).
    public static func of(precision: Double, precisionMean: Double, _ penalty: SparsityPenalty) -> (mean: Double, variance: Double)? {
        guard precision > 0 else { return nil }
        let e = 1 / precision, y = precisionMean / precision
        switch penalty {
        case .automaticRelevance:
            let live = 1 - e / (y * y)
            return live > 0 ? (y * live, e * live) : nil
        case .hierarchical(let gamma): return hierarchical(e, y, c: gamma.exponent(members: 1), b: gamma.rate)
        case .logUniform: return logUniform(e, y)
        }
    }

    /// At a stationary point σ² = 1/(1/e + τ), μ = ȳ σ²/e and τ = 2c/(μ² + σ² + 2b): iterated upwards from a live weight's precision and downwards from a dead one's;
    /// the better of the two is taken.
    private static func hierarchical(_ e: Double, _ y: Double, c: Double, b: Double) -> (mean: Double, variance: Double) {
        func settled(_ start: Double) -> (mean: Double, variance: Double) {
            var precision = start, result = (mean: 0.0, variance: e)
            for _ in 0..<iterationsMax {
                let variance = 1 / (1 / e + precision), mean = y * variance / e
                result = (mean, variance)
                let next = 2 * c / (mean * mean + variance + 2 * b)
                if abs(next - precision) <= 1e-13 * precision { break }
                precision = next
            }
            return result
        }
        func value(_ q: (mean: Double, variance: Double)) -> Double {
            ((y - q.mean) * (y - q.mean) + q.variance) / (2 * e) + c * log(q.mean * q.mean + q.variance + 2 * b) - 0.5 * log(q.variance)
        }
        let live = settled(2 * c / (y * y + e + 2 * b)), dead = settled(c / b)
        return value(live) <= value(dead) ? live : dead
    }

    private static let iterationsMax = 100_000

    /// With α given the best mean is ȳ/(1 + α): a function of log α alone is left, ȳ²/(2e) · α/(1 + α) + penalty, searched on a grid and then by bisection of its slope.
    private static func logUniform(_ e: Double, _ y: Double) -> (mean: Double, variance: Double)? {
        let signal = y * y / (2 * e)
        func sigmoid(_ x: Double) -> Double { 1 / (1 + exp(-x)) }
        func value(_ a: Double) -> Double { signal * sigmoid(a) + 0.5 * log1p(exp(-a)) + 0.63576 * sigmoid(-1.87320 - 1.48695 * a) }
        func slope(_ a: Double) -> Double {
            let up = sigmoid(1.87320 + 1.48695 * a)
            return signal * sigmoid(a) * sigmoid(-a) - 0.5 * sigmoid(-a) - 0.63576 * 1.48695 * up * (1 - up)
        }
        let grid = stride(from: -30.0, through: 20.0, by: 0.25).map { $0 }
        guard let best = grid.indices.min(by: { value(grid[$0]) < value(grid[$1]) }), best > 0, best < grid.count - 1 else { return nil }
        var low = grid[best - 1], high = grid[best + 1]
        guard slope(low) < 0, slope(high) > 0 else { return nil }
        for _ in 0..<100 {
            let middle = (low + high) / 2
            if slope(middle) < 0 { low = middle } else { high = middle }
        }
        let alpha = exp((low + high) / 2), mean = y / (1 + alpha)
        return (mean, alpha * mean * mean)
    }
}
