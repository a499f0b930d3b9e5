/// Count, mean and centred second moments of vectors; merging is exact (pairwise update).
///
/// Source: Chan, Golub & LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances" (1979); one value at a time: Welford.
public struct Moments: Equatable, Sendable {
    public private(set) var count: Double
    public private(set) var mean: [Double]
    /// Sum of squared deviations from the mean.
    public private(set) var centredSquares: [Double]

    /// Of no values.
    public init(dimension: Int) { self.init(count: 0, mean: .init(repeating: 0, count: dimension), centredSquares: .init(repeating: 0, count: dimension)) }

    public init(count: Double, mean: [Double], centredSquares: [Double]) {
        precondition(mean.count == centredSquares.count, "moments of unequal dimensions")
        self.count = count
        self.mean = mean
        self.centredSquares = centredSquares
    }

    /// One vector more.
    public mutating func add(_ value: [Double]) {
        merge(Moments(count: 1, mean: value, centredSquares: .init(repeating: 0, count: value.count)))
    }

    /// What two disjoint sets of vectors come to together: exact but for rounding, in either order.
    public mutating func merge(_ other: Moments) {
        precondition(mean.count == other.mean.count, "merging moments of dimensions \(mean.count) and \(other.mean.count)")
        guard other.count > 0 else { return }
        guard count > 0 else { self = other; return }
        let total = count + other.count
        for index in mean.indices {
            let difference = other.mean[index] - mean[index]
            mean[index] += difference * (other.count / total)
            centredSquares[index] += other.centredSquares[index] + difference * difference * (count * other.count / total)
        }
        count = total
    }

    /// Variances with divisor `count`.
    public var variances: [Double] { centredSquares.map { count > 0 ? $0 / count : 0 } }
}
