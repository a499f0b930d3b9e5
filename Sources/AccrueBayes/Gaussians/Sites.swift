/// Merging by natural parameters: each shard's contribution to a posterior is a *site*, and the posterior is the prior plus all sites.
///
/// Exact for full-covariance Gaussians with Gaussian likelihoods, in one sweep and for any shards. For factorised Gaussians the precisions are exact and
/// the mean is that of partitioned variational inference: biased after the first sweep, at the global mean-field optimum in the limit.
/// Source: partitioned variational inference (Ashman et al. 2022, arXiv 2202.12275); how it starts and is damped here is this project's.
public enum Sites {
    /// Sites after sweep 0, where shard k fitted its likelihood to the power 1/w against the prior: w (fit − prior).
    public static func scaled(fit: [Double], prior: [Double], weight: Double) -> [Double] {
        zip(fit, prior).map { weight * ($0 - $1) }
    }

    /// The prior of shard k in later sweeps: everything but its own site.
    public static func cavity(posterior: [Double], site: [Double]) -> [Double] { zip(posterior, site).map { $0 - $1 } }

    /// A site moved by `damping` towards what the shard's fit against its cavity says.
    public static func damped(_ site: [Double], towards fit: [Double], cavity: [Double], damping: Double) -> [Double] {
        zip(site, zip(fit, cavity)).map { site, pair in site + damping * (pair.0 - pair.1 - site) }
    }

    /// Prior plus sites, summed in shard order.
    public static func posterior(prior: [Double], sites: [[Double]]) -> [Double] {
        sites.reduce(prior) { sum, site in zip(sum, site).map { $0 + $1 } }
    }

    /// Prior plus sites of a factorised Gaussian, with every precision kept at `floor` times the prior's or above: an element whose sites would take it
    /// below moves only as far as the floor, in precision and precision-mean alike.
    ///
    /// - Returns: the posterior, and how many elements were held.
    public static func guarded(prior: DiagonalGaussian, sites: [DiagonalGaussian], floor: Double = 0.05) -> (DiagonalGaussian, held: Int) {
        var result = prior
        var held = 0
        for index in prior.precision.indices {
            let precision = sites.reduce(0) { $0 + $1.precision[index] }
            let precisionMean = sites.reduce(0) { $0 + $1.precisionMean[index] }
            var step = 1.0
            if prior.precision[index] + precision < floor * prior.precision[index] {
                step = (floor - 1) * prior.precision[index] / precision
                held += 1
            }
            result.precision[index] += step * precision
            result.precisionMean[index] += step * precisionMean
        }
        return (result, held)
    }
}
