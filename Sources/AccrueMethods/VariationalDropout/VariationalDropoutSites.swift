import AccrueBayes
import AccrueCore
import AccrueTensor

extension VariationalDropout {
    private static let rowsAtOnce = 250

    /// What rows say of every weight under q: λ the expected curvature of their loss, at least 0, and η = λμ − expected gradient by μ, so that the site's own
    /// gradient at μ is theirs.
    ///
    /// Expectations over q are drawn, but for linear models of Gaussian targets: their loss is quadratic, so what it is at the mean is what is expected. At the mean
    /// of other networks the gradient is too small (the noise makes it what balances the prior), and weights would shrink from round to round.
    func sites(at q: FactorisedGaussian<NamedTensors>, of rows: DesignRows, round: Round, key: RandomKey) throws(AccrueError) -> QuadraticSites<NamedTensors> {
        try sites(at: q, of: rows, 0..<rows.count, information: rows.sample(settings.curvatureRows, of: round, key: key), round: round, key: key)
    }

    /// The same of a shard's part of kept rows, scaled to all rows of the past that they stand for; nil when it has none.
    func sites(at q: FactorisedGaussian<NamedTensors>, of kept: Replay, round: Round, key: RandomKey) throws(AccrueError) -> QuadraticSites<NamedTensors>? {
        guard let (numbers, scale) = kept.informationRows(round.roundRows, of: round) else { return nil }
        let few = kept.informationRows(settings.curvatureRows, of: round)
        let information = (numbers: Array(few?.numbers ?? numbers)[...], scale: (few?.scale ?? scale) / scale)
        return try sites(at: q, of: kept.rows, numbers, information: information, round: round, key: key).scaled(by: scale)
    }

    /// - Parameter information: numbers of the rows that the Gauss–Newton matrix is estimated from, and how many of the others each of them stands for.
    private func sites(
        at q: FactorisedGaussian<NamedTensors>, of rows: DesignRows, _ numbers: Range<Int>, information: (numbers: ArraySlice<Int>, scale: Double), round: Round,
        key: RandomKey
    ) throws(AccrueError) -> QuadraticSites<NamedTensors> {
        var slope = try q.mean.zeros(), curvature = slope
        for start in stride(from: numbers.lowerBound, to: numbers.upperBound, by: Self.rowsAtOnce) {
            try checkStop(round)
            let batch = try rows.batch(start..<min(numbers.upperBound, start + Self.rowsAtOnce)), count = Double(batch.inputs.rowCount)
            let part = try gradient(at: q, batch, key: key.folding("noise").folding(start))
            slope = try slope.zip(part.mean) { (sum, part) throws(AccrueError) in try sum + (try part[0] * count) }
            guard settings.curvature == .noisy else { continue }
            // Half the curvature is the gradient by the variance (Price's theorem).
            curvature = try curvature.zip(part.logScale) { (sum, part) throws(AccrueError) in try sum + (try part[0] * (2 * count)) }
        }
        if settings.curvature == .gaussNewton { curvature = try gaussNewton(at: q, of: rows, information, round: round, key: key) }
        let precision = try curvature.map { (curvature) throws(AccrueError) in try curvature.maximum(0) }
        return QuadraticSites(
            precision: precision,
            precisionMean: try precision.zip(q.mean, slope) { (precision, o) throws(AccrueError) in try (precision * o[0]) - o[1] })
    }

    private func checkStop(_ round: Round) throws(AccrueError) {
        if round.shouldStop() { throw AccrueError(.unavailable, while: "measuring what rows say of weights", "the work was stopped") }
    }

    /// Of the mean loss of a batch, by mean and by variance.
    private func gradient(at q: FactorisedGaussian<NamedTensors>, _ batch: Batch, key: RandomKey) throws(AccrueError) -> FactorisedGaussian<NamedTensors> {
        guard settings.closedForm, settings.curvature == .gaussNewton else {
            return try network.noisyGradient(at: q, batch, likelihood: settings.likelihood, logScaleIn: Self.logScaleRange, key: key).gradient
        }
        let (_, slope) = try valueAndGradient(at: q.mean) { (weights) throws(AccrueError) in
            var pass = PlainPass(weights)
            return try settings.likelihood.loss(try network.apply(batch.inputs, &pass), batch.targets, weights: weights)
        }
        return FactorisedGaussian(mean: slope, logScale: try slope.zeros())
    }

    /// The curvature from some of the rows, scaled to all; every batch has a draw of its own.
    private func gaussNewton(
        at q: FactorisedGaussian<NamedTensors>, of rows: DesignRows, _ information: (numbers: ArraySlice<Int>, scale: Double), round: Round, key: RandomKey
    ) throws(AccrueError) -> NamedTensors {
        let chosen = Array(information.numbers)
        let deviation = try q.logScale.map { (logScale) throws(AccrueError) in try logScale.exp() }
        var sum = try q.mean.zeros()
        for start in stride(from: 0, to: chosen.count, by: Self.rowsAtOnce) {
            try checkStop(round)
            let inputs = try rows.batch(chosen[start..<min(chosen.count, start + Self.rowsAtOnce)]).inputs
            var weights = q.mean
            if !settings.closedForm {
                let drawKey = key.folding("draw").folding(start)
                try weights.visit { (name, mean) throws(AccrueError) in mean = try drawKey.folding(name).draw(mean: mean, deviation: try deviation.tensor(name)) }
            }
            let part = try network.gaussNewtonDiagonal(weights, inputs: inputs, likelihood: settings.likelihood)
            // A Gaussian's log variance has information ½ a row.
            let own = 0.5 * Double(inputs.rowCount)
            try sum.visit { (name, tensor) throws(AccrueError) in tensor = part.contains(name) ? try tensor + (try part.tensor(name)) : try tensor + own }
        }
        return try sum.map { (tensor) throws(AccrueError) in try tensor * information.scale }
    }
}
