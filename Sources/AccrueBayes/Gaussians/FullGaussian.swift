public import AccrueCore

/// A Gaussian over weights in natural parameters: precision Λ and η = Λμ. Multiplying densities adds them.
public struct FullGaussian: Equatable, Sendable {
    public var precision: SymmetricMatrix
    /// η = Λμ.
    public var precisionMean: [Double]

    public init(precision: SymmetricMatrix, precisionMean: [Double]) {
        self.precision = precision
        self.precisionMean = precisionMean
    }

    /// N(mean, diag(1/precision)).
    public init(mean: [Double], diagonalPrecision: [Double]) {
        self.init(precision: SymmetricMatrix(diagonal: diagonalPrecision), precisionMean: zip(mean, diagonalPrecision).map { $0 * $1 })
    }

    /// - Throws: `diverged` when the precision is not positive definite.
    public func mean() throws(AccrueError) -> [Double] { try precision.cholesky(while: "solving for a posterior mean").solve(precisionMean) }

    /// - Throws: `diverged` when the precision is not positive definite.
    public func covariance() throws(AccrueError) -> SymmetricMatrix { try precision.cholesky(while: "inverting a precision").inverse }

    /// KL(self ‖ prior), nats: ½ (tr(Λ₀Σ) + (μ−μ₀)ᵀΛ₀(μ−μ₀) − d + log|Λ| − log|Λ₀|).
    /// - Throws: `diverged` when a precision is not positive definite.
    public func divergence(from prior: FullGaussian) throws(AccrueError) -> Double {
        let operation = "computing a divergence"
        let own = try precision.cholesky(while: operation), other = try prior.precision.cholesky(while: operation)
        let covariance = own.inverse, size = precision.size
        let difference = zip(own.solve(precisionMean), other.solve(prior.precisionMean)).map { $0 - $1 }
        let trace = (0..<size).reduce(0) { sum, row in sum + (0..<size).reduce(0) { $0 + prior.precision[row, $1] * covariance[row, $1] } }
        let distance = zip(difference, prior.precision.times(difference)).reduce(0) { $0 + $1.0 * $1.1 }
        return 0.5 * (trace + distance - Double(size) + own.logDeterminant - other.logDeterminant)
    }

    /// The natural parameters, as one vector: a site or a difference of two Gaussians need not be a density.
    var natural: [Double] { precision.elements + precisionMean }

    init(natural: [Double], size: Int) {
        self.init(
            precision: SymmetricMatrix(size: size, elements: Array(natural.prefix(size * size))), precisionMean: Array(natural.suffix(size)))
    }
}

/// A factorised Gaussian in natural parameters: λ and h = λμ, element by element.
public struct DiagonalGaussian: Equatable, Sendable {
    public var precision: [Double]
    /// h = λμ.
    public var precisionMean: [Double]

    public init(precision: [Double], precisionMean: [Double]) {
        precondition(precision.count == precisionMean.count, "a factorised Gaussian needs as many means as precisions")
        self.precision = precision
        self.precisionMean = precisionMean
    }

    public init(mean: [Double], precision: [Double]) {
        self.init(precision: precision, precisionMean: zip(mean, precision).map { $0 * $1 })
    }

    public var mean: [Double] { zip(precisionMean, precision).map { $0 / $1 } }
    public var variance: [Double] { precision.map { 1 / $0 } }
    var natural: [Double] { precision + precisionMean }

    init(natural: [Double]) {
        self.init(precision: Array(natural.prefix(natural.count / 2)), precisionMean: Array(natural.suffix(natural.count / 2)))
    }

    /// KL(self ‖ prior), nats, in the form that does not cancel near the prior.
    ///
    /// With d = ½ log(λ₀/λ), D = μ − μ₀: ½ Σ (expm1(2d) − 2d + D²λ₀).
    /// Source: Kochurov et al. 2018 (arXiv 1802.07329), factorised Gaussian posterior; this form is derived here.
    public func divergence(from prior: DiagonalGaussian) -> Double {
        var sum = 0.0
        for index in precision.indices {
            let difference = precisionMean[index] / precision[index] - prior.precisionMean[index] / prior.precision[index]
            sum += KullbackLeibler.scaleTerm(halfLogRatio: 0.5 * logarithm(prior.precision[index] / precision[index]))
            sum += difference * difference * prior.precision[index]
        }
        return 0.5 * sum
    }
}
