public import AccrueCore

/// Rows of a linear model y = xᵀw + noise, reduced to what every posterior needs of them: sufficient statistics in Float64.
public struct LinearGaussian: Sendable {
    public let features: Int
    /// Σ x xᵀ.
    public private(set) var inputProducts: SymmetricMatrix
    /// Σ x y.
    public private(set) var targetProducts: [Double]
    /// Σ y².
    public private(set) var targetSquares = 0.0
    public private(set) var rows = 0
    public let noisePrecision: Double

    public init(features: Int, noisePrecision: Double) {
        self.features = features
        self.noisePrecision = noisePrecision
        inputProducts = SymmetricMatrix(size: features, elements: [Double](repeating: 0, count: features * features))
        targetProducts = [Double](repeating: 0, count: features)
    }

    /// - Parameters: input: `features` numbers.
    public mutating func add(input: ArraySlice<Double>, target: Double) {
        precondition(input.count == features, "a row of \(input.count) numbers for \(features) features")
        for (i, a) in input.enumerated() {
            targetProducts[i] += a * target
            for (j, b) in input.enumerated() { inputProducts[i, j] += a * b }
        }
        targetSquares += target * target
        rows += 1
    }

    /// The exact posterior under a full-covariance prior, with the likelihood to the power `exponent`: Λ = Λ₀ + c β XᵀX, η = η₀ + c β Xᵀy.
    public func posterior(prior: FullGaussian, exponent: Double = 1) -> FullGaussian {
        let scale = exponent * noisePrecision
        var result = prior
        for index in result.precision.elements.indices { result.precision.elements[index] += scale * inputProducts.elements[index] }
        for index in result.precisionMean.indices { result.precisionMean[index] += scale * targetProducts[index] }
        return result
    }

    /// The factorised Gaussian with the largest evidence bound: λ = λ₀ + c β diag(XᵀX), and the mean of the exact posterior under the factorised prior.
    /// - Throws: `diverged` when the exact precision is not positive definite (an improper cavity).
    public func factorised(prior: DiagonalGaussian, exponent: Double = 1) throws(AccrueError) -> DiagonalGaussian {
        let exact = posterior(
            prior: FullGaussian(precision: SymmetricMatrix(diagonal: prior.precision), precisionMean: prior.precisionMean), exponent: exponent)
        return DiagonalGaussian(mean: try exact.mean(), precision: exact.precision.diagonal)
    }

    /// E_q[log p(y | X, w)] for q with this mean and covariance, nats.
    public func expectedLogLikelihood(mean: [Double], covariance: SymmetricMatrix) -> Double {
        var square = targetSquares
        for i in 0..<features {
            square -= 2 * mean[i] * targetProducts[i]
            for j in 0..<features { square += inputProducts[i, j] * (mean[i] * mean[j] + covariance[i, j]) }
        }
        return 0.5 * Double(rows) * logarithm(noisePrecision / (2 * .pi)) - 0.5 * noisePrecision * square
    }

    /// log p(y | X) under the prior, nats: log N(y; 0, …) through the posterior's determinant and quadratic form.
    /// - Throws: `diverged` when a precision is not positive definite.
    public func logEvidence(prior: FullGaussian) throws(AccrueError) -> Double {
        let posterior = self.posterior(prior: prior)
        let before = try prior.precision.cholesky(while: "computing the evidence"), after = try posterior.precision.cholesky(while: "computing the evidence")
        func quadratic(_ factor: CholeskyFactor, _ vector: [Double]) -> Double { zip(vector, factor.solve(vector)).reduce(0) { $0 + $1.0 * $1.1 } }
        return 0.5 * Double(rows) * logarithm(noisePrecision / (2 * .pi)) + 0.5 * (before.logDeterminant - after.logDeterminant)
            - 0.5 * (noisePrecision * targetSquares + quadratic(before, prior.precisionMean) - quadratic(after, posterior.precisionMean))
    }
}
