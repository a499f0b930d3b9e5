import AccrueBayes
import AccrueCore
import AccrueTensor
import Foundation
import Testing

@testable import AccrueMethods

/// Moments of batch statistics and the distribution that is fitted to them, against closed forms.
@Suite struct BatchMomentsTests {
    init() { EngineFingerprint.beginThread() }

    private static let key = RandomKey(seed: 61)

    /// A network of one batch norm, which lets batches flow by.
    private static func moments(_ batches: [Tensor], features: Int, rows: Int) throws -> BatchMoments {
        let network = Network(layers: [.batchNorm(.init(name: "n", features: features))], inputShape: [features])
        let weights = try network.initialWeights(key: key)
        var moments = BatchMoments(rows: rows)
        for batch in batches {
            var pass = BatchFlowPass(weights)
            _ = try network.apply(batch, &pass)
            moments.add(pass.flows)
        }
        return moments
    }

    /// Bit for bit.
    private static func expectEqual(_ a: (mean: Tensor, variance: Tensor), _ b: (mean: Tensor, variance: Tensor)) throws {
        for (x, y) in [(a.mean, b.mean), (a.variance, b.variance)] { #expect(try x.bytes() == y.bytes()) }
    }

    /// Of i.i.d. values N(0, 1): μ_B ~ N(0, 1/M) and log v_B has mean log(2/M) + ψ((M−1)/2) and variance ψ′((M−1)/2), as methods/sbn.md, section 7, has them.
    @Test(
        "statistics of i.i.d. Gaussian batches have the moments of closed form",
        arguments: [
            (4, -0.656657, 0.966852, 0.518582, 0.75, 0.827575), (8, -0.283138, 0.574768, 0.753416, 0.875, 0.888733), (16, -0.132684, 0.377645, 0.875742, 0.9375, 0.940469),
            (32, -0.064353, 0.258151, 0.937673, 0.96875, 0.969444), (128, -0.015738, 0.125987, 0.984385, 0.992188, 0.992229),
        ] as [(Int, Double, Double, Double, Double, Double)])
    func gaussian(rows: Int, logMean: Double, logDeviation: Double, median: Double, mean: Double, logNormalMean: Double) throws {
        // 20,000 batches: 100 of 200 channels each.
        let channels = 200, each = 100, n = Double(channels * each)
        let batches = try (0..<each).map { try Self.key.folding(rows).folding($0).normal([rows, channels]) }
        let found = try #require(try Self.moments(batches, features: channels, rows: rows).layers["n"])
        var all = Moments(dimension: 3)
        for channel in 0..<channels {
            let picked = [channel, channels + channel, 2 * channels + channel]
            all.merge(Moments(count: found.count, mean: picked.map { found.mean[$0] }, centredSquares: picked.map { found.centredSquares[$0] }))
        }
        let r = StatisticDistribution(all)
        #expect(r.batches == n)
        let spread = 1 / Double(rows).squareRoot()
        #expect(abs(r.mean[0]) < 4 * spread / n.squareRoot())
        #expect(abs(r.meanDeviation[0] / spread - 1) < 4 / (2 * n).squareRoot())
        // 1e-6 is added before the logarithm: it moves the mean by less than 1e-5.
        #expect(abs(r.logVariance[0] - logMean) < 4 * logDeviation / n.squareRoot() + 1e-5)
        // Standard error of a deviation: the kurtosis of log v_B is at most 4.7, at M = 4.
        #expect(abs(r.logDeviation[0] / logDeviation - 1) < 4 * (3.7 / (4 * n)).squareRoot())
        #expect(abs(r.variance[0] - mean) < 4 * (2 / Double(rows)).squareRoot() / n.squareRoot())
        // What follows from the closed form: the median of r(v), which the deterministic pass of the paper's code has, and its mean.
        #expect(abs(exp(logMean) - median) < 1e-6 && abs(exp(logMean + logDeviation * logDeviation / 2) - logNormalMean) < 1e-5)
        #expect(abs(try r.median().variance.doubles()[0] / median - 1) < 4 * logDeviation / n.squareRoot() + 1e-4)
        // All rows together have variance 1, as the pooled statistics say: M − 1 of M parts within batches, one between them.
        #expect(abs(try r.pooled().variance.doubles()[0] - 1) < 4 * (2 / (n * Double(rows))).squareRoot() + 1e-6)
    }

    @Test("positions of a picture that go together are worth less than independent ones")
    func correlated() throws {
        // Each row of a channel has one value at all of its 4 × 4 positions: M rows are M values, not 16 M.
        let batches = try (0..<400).map { try (try Self.key.folding("picture").folding($0).normal([8, 3, 1, 1])).expanded([8, 3, 4, 4]) }
        let r = try #require(try Self.moments(batches, features: 3, rows: 8).distribution("n"))
        for deviation in r.meanDeviation {
            #expect(deviation > 2 / Double(8 * 16).squareRoot())
            #expect(abs(deviation * Double(8).squareRoot() - 1) < 4 / Double(800).squareRoot())
        }
    }

    @Test("any split of the batches over workers comes to the moments of one pass, in any order; another batch size is refused")
    func merging() throws {
        let batches = try (0..<24).map { try (try Self.key.folding("merge").folding($0).normal([16, 5])) * 3 + 100 }
        let whole = try Self.moments(batches, features: 5, rows: 16)
        let parts = try [0..<3, 3..<4, 4..<17, 17..<24].map { try Self.moments(Array(batches[$0]), features: 5, rows: 16) }
        for order in [[0, 1, 2, 3], [3, 1, 0, 2], [2, 3, 1, 0]] {
            let merged = try order.map { parts[$0] }.reduce(BatchMoments(rows: 16)) { try $0.merged(with: $1) }
            let (a, b) = (try #require(merged.layers["n"]), try #require(whole.layers["n"]))
            #expect(a.count == 24 && merged.batches == 24)
            for (x, y) in zip(a.mean + a.centredSquares, b.mean + b.centredSquares) { #expect(abs(x - y) <= 1e-12 * max(1, abs(y))) }
        }
        let left = try parts[0].merged(with: try parts[1].merged(with: parts[2])), right = try parts[0].merged(with: parts[1]).merged(with: parts[2])
        for (x, y) in zip(left.layers["n"]?.centredSquares ?? [], right.layers["n"]?.centredSquares ?? []) { #expect(abs(x - y) <= 1e-12 * max(1, abs(y))) }
        let error = #expect(throws: AccrueError.self) { try parts[0].merged(with: BatchMoments(rows: 32)) }
        #expect(error?.code == .invalidInput && error?.problem.contains("32") == true && error?.problem.contains("16") == true)
    }

    @Test("draws have the moments of r, are a function of the key, and without spread are exactly its median")
    func draws() throws {
        let count = 400_000.0
        let r = StatisticDistribution(Moments(count: count, mean: [0.5, -1, 0.4], centredSquares: [0.09, 0.16, 0].map { $0 * (count - 1) }))
        #expect(abs(r.meanDeviation[0] - 0.3) < 1e-12 && abs(r.logDeviation[0] - 0.4) < 1e-12 && r.capped == 0)
        // 10⁶ draws, 5,000 channels at once.
        let width = 5_000, wide = StatisticDistribution(
            Moments(
                count: count, mean: [Double](repeating: 0.5, count: width) + [Double](repeating: -1, count: width) + [Double](repeating: 0.4, count: width),
                centredSquares: [Double](repeating: 0.09 * (count - 1), count: width) + [Double](repeating: 0.16 * (count - 1), count: width) + [Double](repeating: 0, count: width)))
        var pooled = Moments(dimension: 2)
        for draw in 0..<200 {
            let (mean, variance) = try wide.draw(Self.key.folding("draws").folding(draw))
            for (m, v) in zip(try mean.doubles(), try variance.doubles()) { pooled.add([m, log(v)]) }
        }
        let n = pooled.count
        #expect(n == 1_000_000)
        #expect(abs(pooled.mean[0] - 0.5) < 4 * 0.3 / n.squareRoot() && abs(pooled.mean[1] + 1) < 4 * 0.4 / n.squareRoot())
        #expect(abs(pooled.variances[0] / 0.09 - 1) < 4 * (2 / n).squareRoot() && abs(pooled.variances[1] / 0.16 - 1) < 4 * (2 / n).squareRoot())
        let (a, b) = (try r.draw(RandomKey(seed: 3)), try r.draw(RandomKey(seed: 3)))
        try Self.expectEqual(a, b)
        #expect(try r.draw(RandomKey(seed: 4)).mean.bytes() != a.mean.bytes())

        for still in [Moments(count: 7, mean: [0.5, -1, 0.4], centredSquares: [0, 0, 0]), Moments(count: 1, mean: [0.5, -1, 0.4], centredSquares: [-1e-18, 0, 0])] {
            let r = StatisticDistribution(still)
            let drawn = try r.draw(RandomKey(seed: 5)), median = try r.median()
            try Self.expectEqual(drawn, median)
            for tensor in [drawn.mean, drawn.variance] { #expect(try tensor.isFinite()) }
        }
    }

    @Test("batches of all rows have no spread; a channel that is dead in some batches has a capped one, and is counted")
    func limits() throws {
        let rows = try Self.key.folding("limits").normal([32, 4])
        let shuffled = try (0..<10).map { try rows.rows(try Tensor(Self.key.folding($0).permutation(32))) }
        let r = try #require(try Self.moments(shuffled, features: 4, rows: 32).distribution("n"))
        #expect((r.meanDeviation + r.logDeviation).allSatisfy { $0 < 1e-7 })
        // Dead in every other batch: log v is log 10⁻⁶ there.
        let dying = try (0..<10).map { try shuffled[$0] * Double($0 % 2) }
        let dead = try #require(try Self.moments(dying, features: 4, rows: 32).distribution("n"))
        #expect(dead.capped == 4 && dead.logDeviation.allSatisfy { $0 == StatisticDistribution.deviationMax })
        #expect(try dead.draw(Self.key).variance.isFinite())
        // Where the variance is 0, what is divided by is the root of ε.
        let still = try Tensor([Float](repeating: 2, count: 3), shape: [1, 3])
        let y = try still.batchNormalised(scale: .ones([3]), shift: .zeros([3]), statistics: (mean: .ones([3]), variance: .zeros([3])))
        #expect(try y.doubles().allSatisfy { abs($0 - 1 / 1e-5.squareRoot()) < 1e-2 })
    }

    @Test("a batch is normalised as a training-mode batch norm does, and what flowed in is its mean and its biased variance")
    func batch() throws {
        for shape in [[16, 3], [6, 3, 4, 5]] {
            let network = Network(layers: [.batchNorm(.init(name: "n", features: 3))], inputShape: Array(shape.dropFirst()))
            let weights = NamedTensors([("n.scale", try Self.key.folding(1).normal([3])), ("n.shift", try Self.key.folding(2).normal([3]))])
            let x = try Self.key.folding(3).normal(shape) * 2 + 5
            var pass = BatchFlowPass(weights)
            let y = try network.apply(x, &pass).doubles(), values = try x.doubles(), scale = try weights.tensor("n.scale").doubles(), shift = try weights.tensor("n.shift").doubles()
            let flow = try #require(pass.flows["n"])
            let inner = shape.dropFirst(2).reduce(1, *)
            for channel in 0..<3 {
                let places = values.indices.filter { $0 / inner % 3 == channel }, m = Double(places.count)
                let mean = places.reduce(0) { $0 + values[$1] } / m, variance = places.reduce(0) { $0 + (values[$1] - mean) * (values[$1] - mean) } / m
                #expect(flow.count == m && abs(flow.mean[channel] - mean) < 1e-9 && abs(flow.variances[channel] - variance) < 1e-9)
                for place in places { #expect(abs(y[place] - (scale[channel] * (values[place] - mean) / (variance + 1e-5).squareRoot() + shift[channel])) < 1e-5) }
            }
        }
    }
}
