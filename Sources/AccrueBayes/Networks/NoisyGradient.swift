public import AccrueCore
public import AccrueTensor

extension Network {
    /// Mean −log p of a batch under one draw of the outputs (local reparameterisation) from independent Gaussians over the weights, and its gradient by
    /// mean and by variance.
    ///
    /// - Parameter logScaleRange: log standard deviations are moved into it first.
    public func noisyGradient(
        at q: FactorisedGaussian<NamedTensors>, _ batch: Batch, likelihood: Likelihood, logScaleIn logScaleRange: ClosedRange<Double>, key: RandomKey
    ) throws(AccrueError) -> (value: Tensor, gradient: FactorisedGaussian<NamedTensors>) {
        let variance = try q.logScale.map { (scale) throws(AccrueError) in try scale.variance(logScaleIn: logScaleRange) }
        return try valueAndGradient(at: FactorisedGaussian(mean: q.mean, logScale: variance)) { (q) throws(AccrueError) in
            var pass = LocalReparameterisationPass(mean: q.mean, variance: q.logScale, key: key)
            let outputs = try apply(batch.inputs, &pass)
            var weights = q.mean
            if likelihood == .gaussian(noisePrecision: nil) {
                // The likelihood's own weight has no outputs of its own: it is drawn itself.
                weights = try q.mean.zip(q.logScale) { (mean, variance) throws(AccrueError) in
                    guard mean.shape.isEmpty else { return mean }
                    return try mean + (try variance[0].squareRoot() * (try key.folding(Likelihood.logVariance).normal([])))
                }
            }
            return try likelihood.loss(outputs, batch.targets, weights: weights)
        }
    }
}
