import AccrueBayes
import AccrueCore
import AccrueTensor
import Foundation
import Testing

/// The divergence of zero-mean Gaussians from Student's t, against golden values and draws.
@Suite struct StudentDivergenceTests {
    private static let rule = EvenNormalRule()

    private static func divergence(_ deviations: [Double], _ degrees: Double) throws -> [Double] {
        let variances = try Tensor(deviations.map { $0 * $0 }, shape: [deviations.count])
        return try KullbackLeibler.zeroMean(variances, fromStudent: degrees, rule: rule).doubles()
    }

    @Test("the rule has the moments of a standard normal number")
    func rule() {
        var moment = 1.0
        for power in 0...12 {
            // E z²ᵏ = (2k − 1)!!
            if power > 0 { moment *= Double(2 * power - 1) }
            #expect(abs(Self.rule.nodes.reduce(0) { $0 + $1.weight * pow($1.square, Double(power)) } / moment - 1) < 1e-10)
        }
        #expect(Self.rule.nodes.count == 32)
    }

    @Test("of three degrees of freedom it has its golden values, as draws have them")
    func golden() throws {
        let deviations = [0.1, 1, 3], found = try Self.divergence(deviations, 3)
        for (value, golden) in zip(found, [1.891169, 0.069152, 0.498073]) { #expect(abs(value - golden) < 1e-6) }
        // A million draws: log q − log p.
        let z = try RandomKey(seed: 23).normal([1_000_000], dtype: .f64).doubles()
        let constant = lgamma(2) - lgamma(1.5) - 0.5 * log(3 * Double.pi)
        for (deviation, value) in zip(deviations, found) {
            var sum = 0.0, squares = 0.0
            for z in z {
                let w = deviation * z, ratio = -0.5 * log(2 * .pi * deviation * deviation) - 0.5 * z * z - constant + 2 * log1p(w * w / 3)
                sum += ratio
                squares += ratio * ratio
            }
            let mean = sum / 1e6
            #expect(abs(mean - value) < 4 * ((squares / 1e6 - mean * mean) / 1e6).squareRoot())
        }
    }

    @Test("with many degrees of freedom it is the divergence from a Gaussian; its slope is that of finite differences, and it is least near one")
    func slopes() throws {
        for (value, deviation) in zip(try Self.divergence([0.3, 1, 1.7], 1e5), [0.3, 1, 1.7]) {
            let r = deviation * deviation
            #expect(abs(value - 0.5 * (r - 1 - log(r))) < 1e-4)
        }
        let variances = [0.01, 0.4, 1.3, 9], h = 1e-6
        let at = NamedTensors([("v", try Tensor(variances, shape: [4]))])
        let slope = try valueAndGradient(at: at) { (w) throws(AccrueError) in try KullbackLeibler.zeroMean(try w.tensor("v"), fromStudent: 3, rule: Self.rule).sum() }.gradient
        let up = try Self.divergence(variances.map { ($0 * (1 + h)).squareRoot() }, 3), down = try Self.divergence(variances.map { ($0 * (1 - h)).squareRoot() }, 3)
        for (index, s) in try slope.tensor("v").doubles().enumerated() { #expect(abs((up[index] - down[index]) / (2 * h * variances[index]) - s) < 1e-5 * max(1, abs(s))) }
        let grid = try Self.divergence(stride(from: 0.2, through: 3, by: 0.1).map { $0 }, 3), least = try #require(grid.min())
        #expect(least >= 0 && grid.first! > least && grid.last! > least)
    }
}
