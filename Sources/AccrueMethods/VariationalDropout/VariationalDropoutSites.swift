import AccrueBayes
import AccrueCore
import AccrueTensor

extension VariationalDropout {
    private static let rowsAtOnce = 250

    /// What rows say of every weight: λ the curvature of their loss at q, at least 0, and η = λμ − gradient by μ, so that the site's own gradient at μ is theirs.
    func sites(at q: FactorisedGaussian<NamedTensors>, of rows: DesignRows, round: Round, key: RandomKey) throws(AccrueError) -> QuadraticSites<NamedTensors> {
        var slope = try q.mean.zeros(), curvature = slope
        for start in stride(from: 0, to: rows.count, by: Self.rowsAtOnce) {
            if round.shouldStop() { throw AccrueError(.unavailable, while: "measuring what rows say of weights", "the work was stopped") }
            let batch = try rows.batch(start..<min(rows.count, start + Self.rowsAtOnce)), count = Double(batch.inputs.rowCount)
            switch settings.curvature {
            case .gaussNewton:
                let (_, part) = try valueAndGradient(at: q.mean) { (weights) throws(AccrueError) in
                    var pass = PlainPass(weights)
                    return try settings.likelihood.loss(try network.apply(batch.inputs, &pass), batch.targets, weights: weights, .sum)
                }
                slope = try slope.zip(part) { (sum, part) throws(AccrueError) in try sum + part[0] }
            case .noisy:
                let (_, part) = try network.noisyGradient(
                    at: q, batch, likelihood: settings.likelihood, logScaleIn: Self.logScaleRange, key: key.folding("noise").folding(start))
                slope = try slope.zip(part.mean) { (sum, part) throws(AccrueError) in try sum + (try part[0] * count) }
                // Half the curvature is the gradient by the variance (Price's theorem).
                curvature = try curvature.zip(part.logScale) { (sum, part) throws(AccrueError) in try sum + (try part[0] * (2 * count)) }
            }
        }
        if settings.curvature == .gaussNewton { curvature = try gaussNewton(at: q.mean, of: rows, round: round, key: key) }
        let precision = try curvature.map { (curvature) throws(AccrueError) in try curvature.maximum(0) }
        return QuadraticSites(
            precision: precision,
            precisionMean: try precision.zip(q.mean, slope) { (precision, o) throws(AccrueError) in try (precision * o[0]) - o[1] })
    }

    /// The curvature from some of the rows, scaled to all.
    private func gaussNewton(at mean: NamedTensors, of rows: DesignRows, round: Round, key: RandomKey) throws(AccrueError) -> NamedTensors {
        // The round's `curvatureRows`, shared out over its shards, rounded up.
        let wanted = min(rows.count, (settings.curvatureRows * rows.count + round.roundRows - 1) / round.roundRows)
        let chosen = key.folding("rows").permutation(rows.count).prefix(wanted), scale = Double(rows.count) / Double(wanted)
        var sum = try mean.zeros()
        for start in stride(from: 0, to: wanted, by: Self.rowsAtOnce) {
            if round.shouldStop() { throw AccrueError(.unavailable, while: "measuring what rows say of weights", "the work was stopped") }
            let inputs = try rows.batch(chosen[start..<min(wanted, start + Self.rowsAtOnce)]).inputs
            let part = try network.gaussNewtonDiagonal(mean, inputs: inputs, likelihood: settings.likelihood)
            // A Gaussian's log variance has information ½ a row.
            let own = 0.5 * Double(inputs.rowCount)
            try sum.visit { (name, tensor) throws(AccrueError) in tensor = part.contains(name) ? try tensor + (try part.tensor(name)) : try tensor + own }
        }
        return try sum.map { (tensor) throws(AccrueError) in try tensor * scale }
    }
}
