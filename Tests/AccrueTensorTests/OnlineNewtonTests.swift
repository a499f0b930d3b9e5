import AccrueCore
import AccrueTensor
import Foundation
import Testing

@Suite struct OnlineNewtonTests {
    private static let key = RandomKey(seed: 31)

    private static func part(_ name: String, _ n: Int, _ scale: Double = 1) throws -> NamedTensors {
        NamedTensors([("w", try key.folding(name).normal([n]) * scale)])
    }

    private static func squares(_ name: String, _ n: Int, _ scale: Double) throws -> NamedTensors {
        NamedTensors([("w", try (try key.folding(name).normal([n]).squared() + 0.1) * scale)])
    }

    @Test("steps and draws are those of the equations, on every instruction set, across the kernel's stretches", arguments: [37, 1_024, 2_051])
    func equations(n: Int) throws {
        let settings = OnlineNewtonSettings(beta1: 0.9, beta2: 0.9, count: 50, floor: 0.9, longest: 2)
        let start = HessianGaussian(mean: try Self.part("mean", n), hessian: try Self.squares("hessian", n, 0.5))
        let centre = try Self.part("centre", n), damping = try Self.squares("damping", n, 0.2), rate = 0.05
        for level in FusedKernels.allCases where (try? FusedKernels.use(level)) != nil {
            defer { try? FusedKernels.use(.widest) }
            var newton = OnlineNewton(
                start, momentum: try start.mean.zeros(), steps: 0, prior: (centre, damping), settings: settings, key: Self.key)
            var weights = try newton.draw()
            var m = try start.mean.tensor("w").doubles(), h = try start.hessian.tensor("w").doubles(), momentum = [Double](repeating: 0, count: n)
            var held = 0, cut = 0
            let m0 = try centre.tensor("w").doubles(), d = try damping.tensor("w").doubles()
            for step in 1...5 {
                let w = try weights.tensor("w").doubles(), slope = try Self.part("slope\(step)", n), g = try slope.tensor("w").doubles()
                try newton.update(&weights, gradient: slope, rate: rate)
                let normals = try Self.key.folding(step).folding("w").normal([n]).doubles(), drawn = try weights.tensor("w").doubles()
                for index in 0..<n {
                    var whole = h[index] + d[index]
                    let a = 0.1 * (g[index] * (w[index] - m[index]) * 50 * whole - h[index])
                    whole += a + a * a / (2 * whole)
                    if whole < settings.floor * d[index] { (whole, held) = (settings.floor * d[index], held + 1) }
                    h[index] = whole - d[index]
                    momentum[index] = 0.9 * momentum[index] + 0.1 * g[index]
                    let move = (momentum[index] / (1 - pow(0.9, Double(step))) + d[index] * (m[index] - m0[index])) / whole
                    if abs(move) > 2 { cut += 1 }
                    m[index] -= rate * max(-2, min(2, move))
                    let expected = m[index] + normals[index] / (50 * whole).squareRoot()
                    #expect(abs(drawn[index] - expected) < 2e-4 * max(1, abs(expected)), "\(level)")
                }
            }
            let (mean, hessian) = (try newton.posterior.mean.tensor("w").doubles(), try newton.posterior.hessian.tensor("w").doubles())
            for (found, expected) in zip(mean + hessian, m + h) { #expect(abs(found - expected) < 2e-4 * max(1, abs(expected)), "\(level)") }
            // Both bounds were met by some and not by most.
            #expect(newton.steps == 5 && (1..<5 * n / 2).contains(held) && (1..<5 * n / 2).contains(cut), "\(held) \(cut)")
        }
    }

    @Test("a step has the same bits on every thread, however many take one at once")
    func threads() throws {
        let n = 5_000
        let start = HessianGaussian(mean: try Self.part("mean", n), hessian: try Self.squares("hessian", n, 0.5)), slope = try Self.part("slope", n)
        let prior = (try Self.part("centre", n), try Self.squares("damping", n, 0.2))
        @Sendable func step() throws -> [TensorBytes] {
            var newton = OnlineNewton(
                start, momentum: try start.mean.zeros(), steps: 0, prior: prior, settings: OnlineNewtonSettings(beta2: 0.99, count: 50), key: Self.key)
            var weights = try newton.draw()
            try newton.update(&weights, gradient: slope, rate: 0.1)
            return try (weights.tensors + newton.posterior.tensors + newton.momentum.tensors).map { try $0.tensor.bytes() }
        }
        let alone = try step()
        DispatchQueue.concurrentPerform(iterations: 8) { _ in #expect((try? step()) == alone) }
    }

    @Test("negative curvature is followed down to the floor, and no further")
    func floor() throws {
        let n = 500, damping = NamedTensors([("w", try .full([n], 0.5))]), zeros = try damping.zeros()
        var newton = OnlineNewton(
            HessianGaussian(mean: zeros, hessian: zeros), momentum: zeros, steps: 0, prior: (zeros, damping),
            settings: OnlineNewtonSettings(beta2: 0.99, count: 50, floor: 0.05), key: Self.key)
        var weights = try newton.draw()
        // The loss −½ c w² with c = 2δ: unheld, H would come to rest near (1 − β₂) c / 2 = δ/100.
        for _ in 0..<800 { try newton.update(&weights, gradient: try weights.map { (w) throws(AccrueError) in try w * -1 }, rate: 0) }
        let found = try newton.posterior.hessian.tensor("w").doubles(), least = -0.95 * 0.5
        #expect(found.allSatisfy { $0 >= least - 1e-6 })
        #expect(found.filter { $0 <= least + 1e-6 }.count > n / 4)
        #expect(try weights.isFinite())
    }

    @Test("gradients that are not finite stay visible in the next draw")
    func notFinite() throws {
        let one = NamedTensors([("w", try .ones([3]))]), zeros = try one.zeros()
        for bad in [Float.nan, .infinity] {
            var newton = OnlineNewton(
                HessianGaussian(mean: zeros, hessian: one), momentum: zeros, steps: 0, prior: (zeros, one),
                settings: OnlineNewtonSettings(beta2: 0.99, count: 5), key: Self.key)
            var weights = try newton.draw()
            try newton.update(&weights, gradient: NamedTensors([("w", try Tensor([0, bad, 0], shape: [3]))]), rate: 0.1)
            #expect(try weights.tensor("w").doubles().map(\.isFinite) == [true, false, true])
        }
    }
}
