import Foundation

/// Closed forms of divergences between Gaussians.
public enum KullbackLeibler {
    /// expm1(2d) − 2d, by its series where it would cancel; d = log σ − log σ₀.
    public static func scaleTerm(halfLogRatio d: Double) -> Double {
        if abs(d) < 1e-3 { return d * d * (2 + d * (4 / 3.0 + d * (2 / 3.0))) }
        return expm1(2 * d) - 2 * d
    }

    /// KL of two factorised Gaussians given by mean and log standard deviation, with its gradients, all in nats.
    ///
    /// - Returns: value, ∂/∂μ = (μ−μ₀)/σ₀², ∂/∂s = expm1(2(s−s₀)).
    public static func factorised(
        mean: [Double], logScale: [Double], priorMean: [Double], priorLogScale: [Double]
    ) -> (value: Double, meanGradient: [Double], logScaleGradient: [Double]) {
        var value = 0.0
        var meanGradient: [Double] = [], scaleGradient: [Double] = []
        for index in mean.indices {
            let d = logScale[index] - priorLogScale[index]
            let difference = mean[index] - priorMean[index]
            let priorPrecision = exp(-2 * priorLogScale[index])
            value += 0.5 * (scaleTerm(halfLogRatio: d) + difference * difference * priorPrecision)
            meanGradient.append(difference * priorPrecision)
            scaleGradient.append(expm1(2 * d))
        }
        return (value, meanGradient, scaleGradient)
    }
}
