import AccrueBayes
import AccrueCore
import AccrueTensor
import Foundation
import Testing

/// The penalties of sparse posteriors against exact values, the optima that follow from them, and the optimiser's slopes.
@Suite struct SparsityPenaltyTests {
    /// log α; exact divergence from the log-uniform prior, its approximation, ARD; and their slopes by log α.
    private static let table: [[Double]] = [
        [-8, 4.635014, 4.635899, 4.000168, -0.500168, -0.499874, -0.499832], [-4, 2.625755, 2.634208, 2.009075, -0.509714, -0.506544, -0.491007],
        [-2, 1.544155, 1.540533, 1.063464, -0.611234, -0.617465, -0.440399], [0, 0.426686, 0.431239, 0.346574, -0.362389, -0.359128, -0.250000],
        [2, 0.066168, 0.068417, 0.063464, -0.064696, -0.066908, -0.059601], [3, 0.024688, 0.025420, 0.024294, -0.024484, -0.025385, -0.023713],
        [8, 0.000168, 0.000168, 0.000168, -0.000168, -0.000169, -0.000168],
    ]

    /// The same of methods/variance.md, without the slopes: log α; exact; approximation; ARD.
    private static let values: [[Double]] = [
        [-5, 3.131778, 3.136684, 2.503358], [-3, 2.107978, 2.115590, 1.524294], [-1, 0.914531, 0.913872, 0.656631], [0, 0.426686, 0.431239, 0.346574],
        [1, 0.173194, 0.177970, 0.156631], [3, 0.024688, 0.025420, 0.024294], [8, 0.000168, 0.000168, 0.000168],
    ]

    private static func tensor(_ values: [Double]) throws -> Tensor { try Tensor(values, shape: [values.count]) }

    /// Dawson's integral, exp(−u²) ∫₀ᵘ exp(t²) dt, by Rybicki's sum; its error with this step is below 1e-9.
    private static func dawson(_ u: Double) -> Double {
        let h = 0.2, centre = 2 * (0.5 * u / h).rounded()
        let sum = stride(from: -61, through: 61, by: 2).reduce(0.0) { $0 + exp(-pow(u - (centre + Double($1)) * h, 2)) / (centre + Double($1)) }
        return sum / Double.pi.squareRoot()
    }

    /// The exact divergence from the log-uniform prior: 2 ∫₀ᵘ Dawson, u = (2α)^(−½), by Simpson's rule.
    private static func exact(_ logAlpha: Double) -> Double {
        let u = 1 / (2 * exp(logAlpha)).squareRoot(), parts = 4_000, h = u / Double(parts)
        return 2 * h / 3 * (0...parts).reduce(0.0) { $0 + ($1 == 0 || $1 == parts ? 1 : $1 % 2 == 1 ? 4 : 2) * dawson(Double($1) * h) }
    }

    @Test("the approximation and ARD have their golden values and slopes, and are never negative")
    func golden() throws {
        for row in Self.table {
            // With a variance of e⁻² the floor of 10⁻⁸ beside the squared mean would show only at the last row's seventh place.
            let mean = try Self.tensor([exp(0.5 * (4 - row[0]))]), penalties: [SparsityPenalty] = [.logUniform, .automaticRelevance]
            for (index, penalty) in penalties.enumerated() {
                let (value, slope) = try valueAndGradient(at: NamedTensors([("rho", try Self.tensor([4]))])) { (w) throws(AccrueError) in
                    try penalty.nats(mean: mean, logVariance: try w.tensor("rho")).sum()
                }
                #expect(abs(try value.item() - row[2 + index]) < 1e-5)
                #expect(abs(try slope.tensor("rho").item() - row[5 + index]) < 1e-5)
                #expect(try value.item() >= 0)
            }
            #expect(abs(Self.exact(row[0]) - row[1]) < 1e-5)
            let u = 1 / (2 * exp(row[0])).squareRoot()
            #expect(abs(-u * Self.dawson(u) - row[4]) < 1e-5)
        }
    }

    @Test("divergences from the log-uniform and ARD priors have the golden values of variance networks, fall as α grows, and end as 1/(2α)")
    func falling() throws {
        let la = Self.values.map { $0[0] }, mean = try Self.tensor(la.map { exp(-0.5 * $0) }), rho = try Self.tensor(la.map { _ in 0 })
        for (penalty, column) in [(SparsityPenalty.logUniform, 2), (.automaticRelevance, 3)] {
            let found = try penalty.nats(mean: mean, logVariance: rho).doubles()
            for (value, row) in zip(found, Self.values) { #expect(abs(value - row[column]) < 2e-6) }
            for (next, value) in zip(found.dropFirst(), found) { #expect(next < value) }
        }
        for row in Self.values { #expect(abs(Self.exact(row[0]) - row[1]) < 1e-6) }
        // 1/(2α) is reached from both sides: what is left is of second order in 1/α.
        for exponent in [6.0, 8] {
            let half = 0.5 * exp(-exponent), ard = try SparsityPenalty.automaticRelevance.nats(mean: try Self.tensor([exp(-0.5 * exponent)]), logVariance: try Self.tensor([0])).item()
            #expect(abs(Self.exact(exponent) / half - 1) < exp(-exponent) && abs(ard / half - 1) < exp(-exponent))
        }
        // The divergence itself: −½ log α + E log|1 + √α z| + 0.6351814, over a million draws.
        let z = try RandomKey(seed: 31).normal([1_000_000], dtype: .f64)
        for row in Self.values where row[0] <= 3 {
            let logs = try (try z * exp(0.5 * row[0]) + 1).absolute().log()
            let mean = try logs.mean().item(), deviation = (try logs.squared().mean().item() - mean * mean).squareRoot()
            #expect(abs(-0.5 * row[0] + mean + 0.6351814 - row[1]) < 4 * deviation / 1_000, "\(row[0])")
        }
    }

    @Test("by mean and by log variance, slopes are those of the formulas")
    func formulas() throws {
        let cases = [(0.3, -3.0), (-1.2, -0.5), (0.02, -6.0), (2, 1)]
        // At a mean of zero all of the log-uniform prior's slopes exist.
        let zero = NamedTensors([("mu", try Self.tensor([0])), ("rho", try Self.tensor([-3]))])
        for penalty in [SparsityPenalty.automaticRelevance, .logUniform] {
            let slope = try valueAndGradient(at: zero) { (w) throws(AccrueError) in try penalty.nats(mean: try w.tensor("mu"), logVariance: try w.tensor("rho")).sum() }.gradient
            #expect(try slope.tensor("mu").item() == 0 && abs(try slope.tensor("rho").item()) < 1e-3)
        }
        for (mean, rho) in cases {
            let variance = exp(rho), alpha = variance / (mean * mean + 1e-8), u = 1 / (2 * alpha).squareRoot()
            func slopes(_ penalty: SparsityPenalty) throws -> (mean: Double, rho: Double) {
                let at = NamedTensors([("mu", try Self.tensor([mean])), ("rho", try Self.tensor([rho]))])
                let slope = try valueAndGradient(at: at) { (w) throws(AccrueError) in try penalty.nats(mean: try w.tensor("mu"), logVariance: try w.tensor("rho")).sum() }.gradient
                return (try slope.tensor("mu").item(), try slope.tensor("rho").item())
            }
            let ard = try slopes(.automaticRelevance)
            #expect(abs(ard.mean - mean / (mean * mean + variance)) < 1e-9 && abs(ard.rho + 0.5 * mean * mean / (mean * mean + variance)) < 1e-9)
            let vd = try slopes(.logUniform)
            // By mean −2/μ times that by log α, which is that by log variance; within 0.03 of the exact divergence's.
            #expect(abs(vd.mean + 2 / mean * vd.rho) < 1e-4 * abs(vd.mean))
            #expect(abs(vd.rho + u * Self.dawson(u)) < 0.03)
            for (shape, rate) in [(0.8, 0.02), (2.0, 1e-4)] {
                let gamma = GammaPrior(shape: shape, rate: rate, estimator: .meanField), c = shape + 0.5, e = mean * mean + variance
                let found = try slopes(.hierarchical(gamma))
                #expect(abs(found.mean - 2 * c * mean / (e + 2 * rate)) < 1e-9 * max(1, abs(found.mean)) && abs(found.rho - (c * variance / (e + 2 * rate) - 0.5)) < 1e-9)
            }
        }
    }

    @Test("the approximation is nowhere more than 0.00937 nats from the exact divergence, and both vanish under much noise")
    func approximation() throws {
        // It is largest where log α is about −3.5: finely there.
        let grid = Array(stride(from: -8.0, through: 8.0, by: 0.1)) + Array(stride(from: -3.7, through: -3.3, by: 0.01))
        let found = try SparsityPenalty.logUniform.nats(mean: try Self.tensor(grid.map { exp(-0.5 * $0) }), logVariance: try Self.tensor(grid.map { _ in 0 })).doubles()
        let worst = zip(grid, found).map { abs(Self.exact($0) - $1) }.max() ?? 1
        #expect(abs(worst - 0.00937) < 1e-5)
        for penalty in [SparsityPenalty.logUniform, .automaticRelevance] {
            #expect(try penalty.nats(mean: try Self.tensor([exp(-10)]), logVariance: try Self.tensor([-3])).item() < 1e-6)
        }
    }

    @Test("ARD is the divergence under the best prior precision: ten per cent more or less is worse")
    func best() throws {
        func divergence(_ mean: Double, _ variance: Double, _ precision: Double) -> Double {
            0.5 * (precision * (mean * mean + variance) - log(variance) - log(precision) - 1)
        }
        for (mean, variance) in [(0.3, 0.04), (-2, 1e-3), (0, 0.5), (1e-4, 1e-2)] {
            let best = 1 / (mean * mean + variance), value = divergence(mean, variance, best)
            let found = try SparsityPenalty.automaticRelevance.nats(mean: try Self.tensor([mean]), logVariance: try Self.tensor([log(variance)])).item()
            #expect(abs(found - value) < 1e-12)
            #expect(divergence(mean, variance, 1.1 * best) > value && divergence(mean, variance, 0.9 * best) > value)
        }
    }

    @Test("a prior shared by a group is the divergence under the group's best precision")
    func shared() throws {
        let key = RandomKey(seed: 4), mean = try key.folding(0).normal([3, 5], dtype: .f64), rho = try key.folding(1).normal([3, 5], dtype: .f64) - 2
        let m = try mean.doubles(), r = try rho.doubles()
        let found = try SparsityPenalty.automaticRelevance.nats(mean: mean, logVariance: rho, sharedOver: [1]).sum(1).doubles()
        for row in 0..<3 {
            let range = row * 5..<row * 5 + 5
            let squares = range.reduce(0.0) { $0 + m[$1] * m[$1] + exp(r[$1]) }, best = 5 / squares
            let divergence = range.reduce(0.0) { $0 + 0.5 * (best * (m[$1] * m[$1] + exp(r[$1])) - r[$1] - log(best) - 1) }
            #expect(abs(found[row] - divergence) < 1e-9)
        }
        // A group of one is a weight with a prior of its own.
        let alone = try SparsityPenalty.automaticRelevance.nats(mean: try mean.reshaped([15, 1]), logVariance: try rho.reshaped([15, 1]), sharedOver: [1]).reshaped([3, 5])
        #expect(try (alone - SparsityPenalty.automaticRelevance.nats(mean: mean, logVariance: rho)).absolute().largest().item() < 1e-12)
    }

    private static let estimators = GammaPrior.Estimator.allCases

    @Test("the hierarchical penalty has its golden value, and is the divergence at its best precision")
    func hierarchical() throws {
        let (mean, variance, a, b) = (0.3, 0.04, 0.75, 0.01)
        let golden = SparsityPenalty.hierarchical(GammaPrior(shape: 0.5, rate: b, estimator: .meanField))
        #expect(abs(try golden.nats(mean: try Self.tensor([mean]), logVariance: try Self.tensor([log(variance)])).item() - 1.3941208) < 1e-7)
        func objective(_ tau: Double, ofLogarithm: Bool) -> Double {
            let density = a * log(b) - lgamma(a) + (a - 1) * log(tau) - b * tau + (ofLogarithm ? log(tau) : 0)
            return 0.5 * (tau * (mean * mean + variance) - log(variance) - log(tau) - 1) - density
        }
        for (estimator, ofLogarithm) in [(GammaPrior.Estimator.modeOfPrecision, false), (.modeOfLogPrecision, true)] {
            let gamma = GammaPrior(shape: a, rate: b, estimator: estimator)
            let tau = 2 * gamma.exponent(members: 1) / (mean * mean + variance + 2 * b), value = objective(tau, ofLogarithm: ofLogarithm)
            #expect(objective(1.1 * tau, ofLogarithm: ofLogarithm) > value && objective(0.9 * tau, ofLogarithm: ofLogarithm) > value)
            let found = try SparsityPenalty.hierarchical(gamma).nats(mean: try Self.tensor([mean]), logVariance: try Self.tensor([log(variance)])).item()
            #expect(abs(found - value) < 1e-9)
        }
    }

    @Test("with a vanishing Gamma prior the gradients are ARD's", arguments: [GammaPrior.Estimator.modeOfLogPrecision, .meanField])
    func limit(estimator: GammaPrior.Estimator) throws {
        let at = NamedTensors([("mu", try Self.tensor([0.3, -1, 0.01])), ("rho", try Self.tensor([-3, -1, -6]))])
        func gradient(_ penalty: SparsityPenalty) throws -> [Double] {
            try valueAndGradient(at: at) { (w) throws(AccrueError) in try penalty.nats(mean: try w.tensor("mu"), logVariance: try w.tensor("rho")).sum() }
                .gradient.tensors.flatMap { try $0.tensor.doubles() }
        }
        let small = try gradient(.hierarchical(GammaPrior(shape: 1e-9, rate: 1e-12, estimator: estimator))), ard = try gradient(.automaticRelevance)
        for (a, b) in zip(small, ard) { #expect(abs(a - b) < 1e-6 * max(1, abs(b))) }
    }

    @Test("with α fixed all penalties train the means alike: they are constants")
    func fixedAlpha() throws {
        let key = RandomKey(seed: 8), x = try key.folding(0).normal([20, 6], dtype: .f64), y = try key.folding(1).normal([20, 1], dtype: .f64)
        let eps = try key.folding(2).normal([20, 1], dtype: .f64), mean = NamedTensors([("mu", try key.folding(3).normal([1, 6], dtype: .f64))])
        func gradient(_ penalty: SparsityPenalty?) throws -> [Double] {
            try valueAndGradient(at: mean) { (w) throws(AccrueError) in
                let mu = try w.tensor("mu"), rho = try mu.squared().log() + log(0.3)
                let outputs = try x.linear(mu, nil) + (try x.squared().linear(try rho.exp(), nil).squareRoot() * eps)
                let loss = try (outputs - y).squared().mean()
                guard let penalty else { return loss }
                return try loss + (try penalty.nats(mean: mu, logVariance: rho).sum() * 0.05)
            }.gradient.tensor("mu").doubles()
        }
        let none = try gradient(nil)
        for penalty in [SparsityPenalty.automaticRelevance, .logUniform] {
            // The floor of 10⁻⁸ beside the squared mean is all that is left.
            for (a, b) in zip(try gradient(penalty), none) { #expect(abs(a - b) < 1e-5) }
        }
    }

    @Test("one weight under a Gaussian factor has its golden optimum under each penalty")
    func optimum() {
        func check(_ y: Double, _ penalty: SparsityPenalty, _ mean: Double, _ variance: Double, _ logAlpha: Double) {
            guard let q = SiteOptimum.of(precision: 100, precisionMean: 100 * y, penalty) else { Issue.record("no optimum at \(y)"); return }
            #expect(abs(q.mean - mean) < 1.01e-5 && abs(q.variance - variance) < 1e-6 * max(1, variance) + 5e-6, "\(penalty) at \(y): \(q)")
            #expect(abs(log(q.variance) - log(q.mean * q.mean) - logAlpha) < 2e-3, "\(penalty) at \(y): \(q)")
        }
        for (y, mean, variance, a) in [(0.11, 0.01909, 0.001736, 1.561), (0.2, 0.15, 0.0075, -1.099), (0.5, 0.48, 0.0096, -3.178)] { check(y, .automaticRelevance, mean, variance, a) }
        for (y, mean, variance, a) in [(0.11, 0.00982, 0.000984, 2.322), (0.2, 0.12244, 0.009496, -0.457), (0.5, 0.47762, 0.01069, -3.061)] { check(y, .logUniform, mean, variance, a) }
        let gamma = SparsityPenalty.hierarchical(GammaPrior(shape: 0.5, rate: 1e-4, estimator: .meanField))
        check(0.5, gamma, 0.45822, 0.009164, -3.132)
        let dead = SiteOptimum.of(precision: 100, precisionMean: 5, gamma)
        #expect(abs((dead?.variance ?? 0) - 0.000193) < 1e-6)
        #expect(abs(log(dead?.variance ?? 1) - log(pow(dead?.mean ?? 1, 2)) - 5.332) < 5e-3)
        // Dead exactly when ȳ² ≤ e; log α above 3 exactly when ȳ² < e (1 + e⁻³).
        #expect(SiteOptimum.of(precision: 100, precisionMean: 100 * 0.0999, .automaticRelevance) == nil)
        for (ratio, isAbove) in [(1 + 0.99 * exp(-3), true), (1 + 1.01 * exp(-3), false)] {
            let q = SiteOptimum.of(precision: 100, precisionMean: 100 * (0.01 * ratio).squareRoot(), .automaticRelevance)
            #expect(q.map { (log($0.variance) - log($0.mean * $0.mean) > 3) == isAbove } == true)
        }
    }

    @Test("the optimiser's slopes are the penalties' and the sites', on every instruction set")
    func slopes() throws {
        let shape = [5, 9], key = RandomKey(seed: 21)
        let mean = try key.folding(0).normal(shape), logScale = try key.folding(1).normal(shape) - 1
        let lambda = try key.folding(2).normal(shape).squared(), eta = try key.folding(3).normal(shape)
        let gammas = Self.estimators.map { SparsityPenalty.hierarchical(GammaPrior(shape: 0.8, rate: 0.02, estimator: $0)) }
        for (penalty, dims) in ([.automaticRelevance, .logUniform] + gammas).map({ ($0, [Int]()) }) + [(.automaticRelevance, [1]), (gammas[2], [0])] {
            let wide = NamedTensors([("mu", try mean.cast(to: .f64)), ("s", try logScale.cast(to: .f64))])
            let l = try lambda.cast(to: .f64), e = try eta.cast(to: .f64)
            let (_, expected) = try valueAndGradient(at: wide) { (w) throws(AccrueError) in
                let mu = try w.tensor("mu"), s = try w.tensor("s")
                let site = try (try (mu.squared() + (try (s * 2).exp())) * l * 0.5) - (mu * e)
                return try (try penalty.nats(mean: mu, logVariance: s * 2, sharedOver: dims) * 0.7).sum() + (try site.sum())
            }
            for level in FusedKernels.allCases where (try? FusedKernels.use(level)) != nil {
                defer { try? FusedKernels.use(.widest) }
                var q = FactorisedGaussian(mean: NamedTensors([("w", mean)]), logScale: NamedTensors([("w", logScale)]))
                var adam = SparseAdam(
                    first: try q.zeros(), second: try q.zeros(), steps: 0, penalties: ["w": penalty.weightPenalty(shape, sharedOver: dims)],
                    sites: QuadraticSites(precision: NamedTensors([("w", lambda)]), precisionMean: NamedTensors([("w", eta)])), share: 1, weight: .constant(0.7),
                    logScaleRange: -12.0 ... 4)
                try adam.update(&q, gradient: try q.zeros(), rate: 1e-3)
                // After one step the first moment is a tenth of the slope.
                for (found, name) in [(adam.first.mean, "mu"), (adam.first.logScale, "s")] {
                    for (a, b) in zip(try found.tensor("w").doubles(), try expected.tensor(name).doubles()) { #expect(abs(10 * a - b) < 1e-4 * max(1, abs(b)), "\(penalty), \(level)") }
                }
            }
        }
    }
}
