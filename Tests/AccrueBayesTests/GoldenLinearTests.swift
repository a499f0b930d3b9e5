import AccrueBayes
import AccrueCore
import Foundation
import Testing

/// Rows (1,0), (1,1), (1,2), (1,3) with targets 1, 2, 2, 4, noise precision 4, prior N(0, I): every number below is known in closed form.
@Suite("Bayesian linear regression, the golden case")
struct GoldenLinearTests {
    static let inputs: [[Double]] = [[1, 0], [1, 1], [1, 2], [1, 3]]
    static let targets: [Double] = [1, 2, 2, 4]
    static let prior = FullGaussian(mean: [0, 0], diagonalPrecision: [1, 1])
    static let factorisedPrior = DiagonalGaussian(mean: [0, 0], precision: [1, 1])

    static func model(_ rows: [Int]) -> LinearGaussian {
        var model = LinearGaussian(features: 2, noisePrecision: 4)
        for row in rows { model.add(input: inputs[row][...], target: targets[row]) }
        return model
    }

    static func near(_ left: [Double], _ right: [Double], _ tolerance: Double) -> Bool {
        left.count == right.count && zip(left, right).allSatisfy { abs($0 - $1) <= tolerance }
    }

    @Test("the exact posterior")
    func exact() throws {
        let posterior = Self.model([0, 1, 2, 3]).posterior(prior: Self.prior)
        #expect(posterior.precision.elements == [17, 24, 24, 57])
        #expect(Self.near(try posterior.mean(), [0.824427481, 0.916030534], 1e-9))
        #expect(Self.near(try posterior.covariance().diagonal, [0.145038168, 0.043256997], 1e-9))
    }

    @Test("the posterior after one part is the prior for the next, exactly")
    func sequential() throws {
        let first = Self.model([0, 1]).posterior(prior: Self.prior)
        #expect(Self.near(try first.mean(), [0.965517241, 0.827586207], 1e-9))
        let second = Self.model([2, 3]).posterior(prior: first)
        #expect(second == Self.model([0, 1, 2, 3]).posterior(prior: Self.prior))
    }

    @Test("the factorised optimum: precisions, mean, evidence, bound and divergence")
    func factorised() throws {
        let model = Self.model([0, 1, 2, 3])
        let posterior = try model.factorised(prior: Self.factorisedPrior)
        #expect(posterior.precision == [17, 57])
        #expect(Self.near(posterior.mean, [0.824427481, 0.916030534], 1e-9))
        let divergence = posterior.divergence(from: Self.factorisedPrior)
        #expect(abs(divergence - 3.235712306) < 1e-9)
        let bound = model.expectedLogLikelihood(mean: posterior.mean, covariance: SymmetricMatrix(diagonal: posterior.variance)) - divergence
        #expect(abs(bound - -6.524503823) < 1e-9)
        let evidence = try model.logEvidence(prior: Self.prior)
        #expect(abs(evidence - -6.073276323) < 1e-9)
        #expect(bound <= evidence)
    }

    @Test("a factorised recursion over two parts is inexact by construction, and by how much is known")
    func factorisedSequential() throws {
        let first = try Self.model([0, 1]).factorised(prior: Self.factorisedPrior)
        #expect(first.precision == [9, 5] && Self.near(first.mean, [0.965517241, 0.827586207], 1e-9))
        let second = try Self.model([2, 3]).factorised(prior: first)
        #expect(Self.near(second.precision, [17, 57], 1e-12) && Self.near(second.mean, [0.879704260, 0.886734137], 1e-9))
    }

    @Test("full covariance merges exactly over any shards in one sweep", arguments: [[[0, 1, 2, 3]], [[0], [1, 2, 3]], [[0, 1], [2, 3]], [[0], [1], [2], [3]]])
    func fullMerge(shards: [[Int]]) {
        let merged = shards.map { shard in
            let weight = Double(shard.count) / 4
            let fit = Self.model(shard).posterior(prior: Self.prior, exponent: 1 / weight)
            return (fit.precision.elements + fit.precisionMean).map { weight * $0 }
        }.reduce([Double](repeating: 0, count: 6)) { zip($0, $1).map { $0 + $1 } }
        let whole = Self.model([0, 1, 2, 3]).posterior(prior: Self.prior)
        #expect(Self.near(merged, whole.precision.elements + whole.precisionMean, 1e-12))
    }

    /// Means after each sweep of partitioned inference: sweep 1 by scaled fits, later ones against cavities.
    static func partitioned(_ shards: [[Int]], sweeps: Int, damping: Double = 1) throws -> [[Double]] {
        let prior = factorisedPrior.precision + factorisedPrior.precisionMean
        var sites: [[Double]] = []
        for shard in shards {
            let weight = Double(shard.count) / 4
            let fit = try model(shard).factorised(prior: factorisedPrior, exponent: 1 / weight)
            sites.append(Sites.scaled(fit: fit.precision + fit.precisionMean, prior: prior, weight: weight))
        }
        var posterior = Sites.posterior(prior: prior, sites: sites)
        var means: [[Double]] = [[posterior[2] / posterior[0], posterior[3] / posterior[1]]]
        for _ in 1..<max(sweeps, 1) {
            for (index, shard) in shards.enumerated() {
                let cavity = Sites.cavity(posterior: posterior, site: sites[index])
                let fit = try model(shard).factorised(prior: DiagonalGaussian(precision: Array(cavity[0..<2]), precisionMean: Array(cavity[2..<4])))
                sites[index] = Sites.damped(sites[index], towards: fit.precision + fit.precisionMean, cavity: cavity, damping: damping)
            }
            posterior = Sites.posterior(prior: prior, sites: sites)
            #expect(near(Array(posterior[0..<2]), [17, 57], 1e-9))
            means.append([posterior[2] / posterior[0], posterior[3] / posterior[1]])
        }
        return means
    }

    @Test("factorised shards: the known bias after one sweep, the global optimum in the limit")
    func partitionedSweeps() throws {
        let means = try Self.partitioned([[0, 1], [2, 3]], sweeps: 100)
        #expect(Self.near(means[0], [0.278166, 1.345502], 5e-7))
        #expect(Self.near(means[1], [0.736, 0.952], 5e-4))
        #expect(Self.near(means[5], [0.819, 0.919], 5e-4))
        #expect(Self.near(means[20], [0.824426, 0.916031], 1e-6))
        #expect(Self.near(means[99], [0.824427481, 0.916030534], 1e-9))
        #expect(Self.near(try Self.partitioned([[0, 2], [1, 3]], sweeps: 1)[0], [0.890, 0.893], 5e-4))
    }

    @Test("divergences: a known value, zero at the prior with zero gradient, and gradients by finite differences")
    func divergence() {
        let value = KullbackLeibler.factorised(mean: [0.3], logScale: [log(0.5)], priorMean: [0], priorLogScale: [0]).value
        #expect(abs(value - 0.363147181) < 1e-9)
        let same = KullbackLeibler.factorised(mean: [0.3, 1], logScale: [-2, 0.5], priorMean: [0.3, 1], priorLogScale: [-2, 0.5])
        #expect(same.value == 0 && same.meanGradient == [0, 0] && same.logScaleGradient == [0, 0])
        for (mean, scale) in [(0.7, -1.0), (-0.2, 0.3), (0.1, -0.0004)] {
            func at(_ m: Double, _ s: Double) -> Double {
                KullbackLeibler.factorised(mean: [m], logScale: [s], priorMean: [0.1], priorLogScale: [0]).value
            }
            let exact = KullbackLeibler.factorised(mean: [mean], logScale: [scale], priorMean: [0.1], priorLogScale: [0])
            let h = 1e-6
            let byMean = (at(mean + h, scale) - at(mean - h, scale)) / (2 * h)
            let byScale = (at(mean, scale + h) - at(mean, scale - h)) / (2 * h)
            #expect(abs(byMean - exact.meanGradient[0]) < 1e-7 && abs(byScale - exact.logScaleGradient[0]) < 1e-7)
        }
    }

    @Test("the divergence of full covariances: a known value, that of diagonals, never negative, zero at the prior")
    func fullDivergence() throws {
        func gaussian(_ covariance: [Double], _ mean: [Double]) throws -> FullGaussian {
            let precision = try SymmetricMatrix(size: 2, elements: covariance).cholesky(while: "testing").inverse
            return FullGaussian(precision: precision, precisionMean: precision.times(mean))
        }
        let posterior = try gaussian([0.5, 0.2, 0.2, 0.3], [0.4, -0.1]), prior = try gaussian([1, 0.3, 0.3, 0.8], [0, 0])
        #expect(abs(try posterior.divergence(from: prior) - 0.454927513) < 1e-9)
        #expect(abs(try prior.divergence(from: prior)) < 1e-12)
        var key = RandomKey(seed: 8)
        func uniform() -> Double {
            key = key.folding(1)
            return Double(key.low >> 11) * 0x1p-53
        }
        for _ in 0..<200 {
            let means = (0..<4).map { _ in 4 * uniform() - 2 }, precisions = (0..<4).map { _ in 0.1 + 5 * uniform() }
            let p = Array(precisions[0..<2]), q = Array(precisions[2..<4]), m = Array(means[0..<2]), o = Array(means[2..<4])
            let full = try FullGaussian(mean: m, diagonalPrecision: p).divergence(from: FullGaussian(mean: o, diagonalPrecision: q))
            let factorised = DiagonalGaussian(mean: m, precision: p).divergence(from: DiagonalGaussian(mean: o, precision: q))
            #expect(abs(full - factorised) < 1e-9 && full >= -1e-12)
            // Any correlation: L Lᵀ is positive definite.
            let lower = (0..<3).map { _ in 2 * uniform() - 1 }
            let a = 0.2 + lower[0] * lower[0], b = lower[0] * lower[1], c = 0.2 + lower[1] * lower[1] + lower[2] * lower[2]
            #expect(try gaussian([a, b, b, c], m).divergence(from: gaussian([c, -b, -b, a], o)) >= -1e-12)
        }
    }

    @Test("the guard holds a precision at its floor, and moves its mean by the same step")
    func positivityGuard() {
        let prior = DiagonalGaussian(mean: [0], precision: [4])
        func site(_ precision: Double) -> DiagonalGaussian { DiagonalGaussian(precision: [precision - 4], precisionMean: [precision - 4]) }
        let legal = Sites.guarded(prior: prior, sites: [site(1.5), site(1.5), site(6)])
        #expect(legal.0.precision == [1] && legal.held == 0)
        let held = Sites.guarded(prior: prior, sites: [site(1.5), site(1.5), site(5)], floor: 0.05)
        #expect(held.held == 1 && abs(held.0.precision[0] - 0.2) < 1e-12 && abs(held.0.precisionMean[0] - -3.8) < 1e-12)
    }

    @Test("zero-mean factors add on 1/σ² alone, and where data widened all of them the guard holds what is left")
    func zeroMeanFactors() {
        let prior = DiagonalGaussian(mean: [0], precision: [1])
        func merged(_ variances: [Double]) -> (DiagonalGaussian, held: Int) {
            Sites.guarded(prior: prior, sites: variances.map { DiagonalGaussian(precision: [1 / $0 - 1], precisionMean: [0]) })
        }
        let alone = merged([0.25]), narrower = merged([0.5, 0.25]), wider = merged([4, 4])
        #expect(alone.0.precision == [4] && alone.held == 0)
        #expect(narrower.0.precision == [5] && narrower.0.precisionMean == [0] && narrower.held == 0)
        // 1 − 2 · 0.75 would be negative: the step ends where 0.05 of the prior's precision is left.
        #expect(wider.held == 1 && abs(wider.0.precision[0] - 0.05) < 1e-12 && wider.0.precisionMean == [0])
    }
}
