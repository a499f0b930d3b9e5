import AccrueBayes
import AccrueCore
import Foundation

/// What batches of one size have flowing into each batch norm: moments over batches of their means, of the logarithms of their variances, and of their
/// variances.
///
/// Pooling is exact (Chan): any split of the batches over workers comes to the same. Of batches of another size the means spread otherwise (as about 1/M), so
/// those are never pooled. Source: methods and code of Atanov et al. 2018, with exact sums where the code smooths exponentially.
struct BatchMoments: Equatable, Sendable {
    /// M, rows of every batch.
    let rows: Int
    /// By batch norm, each over 3 × features numbers: means, log variances, variances.
    private(set) var layers: [String: Moments]

    /// Added to a variance before its logarithm is taken.
    static let floor = 1e-6

    /// Of no batches.
    init(rows: Int, layers: [String: Moments] = [:]) {
        self.rows = rows
        self.layers = layers
    }

    /// T, how many batches.
    var batches: Int { Int(layers.values.first?.count ?? 0) }

    /// One batch more, from what flowed into its batch norms.
    mutating func add(_ flows: [String: Moments]) {
        for (name, flow) in flows {
            let variances = flow.variances
            layers[name, default: Moments(dimension: 3 * flow.mean.count)].add(flow.mean + variances.map { log($0 + Self.floor) } + variances)
        }
    }

    /// The batches of both.
    /// - Throws: `invalidInput` when the others are of another size.
    func merged(with other: BatchMoments) throws(AccrueError) -> BatchMoments {
        guard other.rows == rows else {
            throw AccrueError(
                .invalidInput, while: "pooling batch statistics", "some are of batches of \(other.rows) rows, others of \(rows)", hint: "collect them anew with one size")
        }
        var result = self
        for (name, moments) in other.layers { result.layers[name, default: Moments(dimension: moments.mean.count)].merge(moments) }
        return result
    }

    /// r(u) of a batch norm; nil before the first batch.
    func distribution(_ name: String) -> StatisticDistribution? {
        guard let moments = layers[name], moments.count > 0 else { return nil }
        return StatisticDistribution(moments)
    }
}
