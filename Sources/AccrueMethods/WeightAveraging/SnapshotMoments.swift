import AccrueBayes
import AccrueCore
import AccrueTensor

/// Count, mean and centred squares of collected weights, and the newest of them: what SWAG's Gaussian is made of.
///
/// One after the other (Welford): n ← n + 1, m ← m + (w − m)/n, M₂ ← M₂ + (w − m_old)(w − m_new). Together (Chan, Golub & LeVeque 1979):
/// N = Σ nₖ, m = Σ nₖ mₖ / N, M₂ = Σ [M₂ₖ + nₖ (mₖ − m)²]. In Float64, so that both are the moments of the union of what was collected, whatever
/// shards, sweeps and rounds it came in; M₂/n never is the small difference of large numbers that mean(w²) − m² is.
struct SnapshotMoments: Sendable {
    /// Weights that stay as they were collected.
    struct Snapshot: Sendable {
        var weights: NamedTensors
        /// Of `count`.
        var share: Double
    }

    /// How many were collected: those of one step on all shards count as one, each shard by its share of the rows.
    var count: Double
    /// F64.
    var mean: NamedTensors
    /// Sum of squared deviations from the mean, F64.
    var centredSquares: NamedTensors
    /// The newest, oldest first: by round, step and shard.
    var newest: [Snapshot]

    /// Of nothing yet; the mean is where learning starts.
    init(at weights: NamedTensors) throws(AccrueError) {
        count = 0
        mean = try weights.map { (tensor) throws(AccrueError) in try tensor.cast(to: .f64) }
        centredSquares = try mean.zeros()
        newest = []
    }

    init(count: Double, mean: NamedTensors, centredSquares: NamedTensors, newest: [Snapshot]) {
        self.count = count
        self.mean = mean
        self.centredSquares = centredSquares
        self.newest = newest
    }

    /// Collects weights.
    /// - Parameter limit: of the newest that stay.
    mutating func collect(_ weights: NamedTensors, keeping limit: Int) throws(AccrueError) {
        count += 1
        let share = 1 / count
        let wide = try weights.map { (tensor) throws(AccrueError) in try tensor.cast(to: .f64) }
        // The first is the mean itself, bit for bit.
        let before = count == 1 ? wide : mean
        mean = try before.zip(wide) { (mean, new) throws(AccrueError) in try mean + (try new[0] - mean) * share }
        centredSquares = try centredSquares.zip(wide, before, mean) { (sum, terms) throws(AccrueError) in
            try sum + (try (try terms[0] - terms[1]) * (try terms[0] - terms[2]))
        }
        newest = Array((newest + [Snapshot(weights: weights, share: 1)]).suffix(limit))
    }

    /// The same with another count: an average with a bounded memory, or a shard's share of a step. Mean, variances and deviations stay.
    func counting(as count: Double) throws(AccrueError) -> SnapshotMoments {
        let factor = self.count > 0 ? count / self.count : 1
        guard factor != 1 else { return self }
        return SnapshotMoments(
            count: count, mean: mean, centredSquares: try centredSquares.map { (sum) throws(AccrueError) in try sum * factor },
            newest: count > 0 ? newest.map { Snapshot(weights: $0.weights, share: $0.share * factor) } : [])
    }

    /// What was collected before, followed by what shards collected in the same steps: the moments of the union, shards by their rows.
    ///
    /// The newest are those of the union in the order of steps, and of shards within a step; so a shard need not send more than its part of `limit`.
    /// - Parameter shards: in their order; all collected equally often.
    static func merged(_ before: SnapshotMoments, _ shards: [Weighted<SnapshotMoments>], keeping limit: Int) throws(AccrueError) -> SnapshotMoments {
        let rows = shards.reduce(0) { $0 + $1.rows }
        var parts = before.count > 0 ? [before] : []
        for shard in shards { parts.append(try shard.value.counting(as: shard.value.count * Double(shard.rows) / Double(rows))) }
        guard parts.count > 1 else { return parts.first ?? before }
        let count = parts.reduce(0) { $0 + $1.count }
        let mean = try parts.map(\.mean).weightedSum(parts.map { $0.count / count })
        var squares: [NamedTensors] = []
        for part in parts { squares.append(try part.mean.zip(mean) { (own, all) throws(AccrueError) in try (own - all[0]).squared() }) }
        let sum = try (parts.map(\.centredSquares) + squares).weightedSum(parts.map { _ in 1 } + parts.map(\.count))
        let sent = parts.suffix(shards.count).map(\.newest), steps = sent.map(\.count).max() ?? 0
        let new = (0..<steps).flatMap { step in sent.compactMap { $0.dropFirst(step).first } }
        return SnapshotMoments(count: count, mean: mean, centredSquares: sum, newest: Array((before.newest + new).suffix(limit)))
    }

    /// σ²: M₂/n, at least `floor`.
    func variances(floor: Double = SnapshotMoments.varianceFloor) throws(AccrueError) -> NamedTensors {
        try centredSquares.map { (sum) throws(AccrueError) in try (sum * (count > 0 ? 1 / count : 0)).maximum(floor) }
    }

    /// The clamp of SWAG's own code.
    static let varianceFloor = 1e-30

    /// D: deviations of the newest from the mean of everything collected up to each, itself included; F32, oldest first.
    ///
    /// Those means need not be kept: going back, mⱼ₋₁ = (Wⱼ mⱼ − ωⱼ wⱼ) / (Wⱼ − ωⱼ), with ω the shares and W their sums. So the columns are those that
    /// one pass over the union makes, exactly but for rounding.
    func deviations() throws(AccrueError) -> [NamedTensors] {
        var columns: [NamedTensors] = []
        var mean = mean, count = count
        for (place, snapshot) in newest.enumerated().reversed() {
            let wide = try snapshot.weights.map { (tensor) throws(AccrueError) in try tensor.cast(to: .f64) }
            columns.append(try wide.zip(mean) { (new, mean) throws(AccrueError) in try (new - mean[0]).cast(to: .f32) })
            guard place > 0 else { break }
            let left = count - snapshot.share, (whole, share) = (count / left, snapshot.share / left)
            mean = try mean.zip(wide) { (mean, new) throws(AccrueError) in try mean * whole - (try new[0] * share) }
            count = left
        }
        return columns.reversed()
    }
}

// The stored form, as part of a state's or a delta's.
extension SnapshotMoments {
    var storedTensors: [String: TensorBytes] {
        var trees = ["mean": mean, "centredSquares": centredSquares]
        for (place, snapshot) in newest.enumerated() { trees["newest.\(place)"] = snapshot.weights }
        var tensors = StoredTrees.stored(trees).tensors
        tensors["count"] = TensorBytes([count], shape: [])
        tensors["shares"] = TensorBytes(newest.map(\.share), shape: [newest.count])
        return tensors
    }

    /// - Throws: `corrupt` when a part is missing.
    init(_ stored: Safetensors) throws(AccrueError) {
        let operation = "reading moments of collected weights"
        // Of shape [], so there is exactly one.
        count = try stored.doubles("count", shape: [], while: operation).reduce(0, +)
        mean = try NamedTensors(stored, prefix: "mean.")
        centredSquares = try NamedTensors(stored, prefix: "centredSquares.")
        newest = []
        for (place, share) in try stored.doubles("shares", while: operation).enumerated() {
            newest.append(Snapshot(weights: try NamedTensors(stored, prefix: "newest.\(place)."), share: share))
        }
        let shares = newest.map(\.share)
        guard count.isFinite, count >= 0, shares.allSatisfy({ $0 > 0 }), shares.reduce(0, +) <= count * (1 + 1e-9) else {
            throw AccrueError(.corrupt, while: operation, "\(shares.count) collected weights count as \(shares.reduce(0, +)) of \(count)")
        }
    }
}
