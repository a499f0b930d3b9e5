import AccrueCore
import AccrueTensor
import Foundation
import Testing

@Suite struct OptimiserTests {
    @Test("SWA's schedule gives its golden rates")
    func averaging() {
        let first = Schedule.averaging(initial: 0.05, averaging: 0.01, reference: 161)
        for (epoch, rate) in [(0, 0.05), (80, 0.05), (81, 0.049689), (100, 0.037888), (120, 0.025466), (144, 0.010559), (145, 0.01), (160, 0.01), (299, 0.01)] {
            #expect(abs(first.rate(at: Double(epoch)) - rate) < 1e-6)
        }
        let second = Schedule.averaging(initial: 0.1, averaging: 0.05, reference: 161)
        for (epoch, rate) in [(81, 0.099612), (100, 0.08486), (120, 0.069332), (144, 0.050699), (145, 0.05)] {
            #expect(abs(second.rate(at: Double(epoch)) - rate) < 1e-5)
        }
    }

    @Test("the cyclical and triangular schedules give their golden rates")
    func cycles() {
        let cyclical = Schedule.cyclical(high: 0.05, low: 0.01, cycle: 4)
        for (step, rate) in [0.04, 0.03, 0.02, 0.01, 0.04, 0.03, 0.02, 0.01].enumerated() { #expect(abs(cyclical.rate(at: Double(step)) - rate) < 1e-12) }
        let triangular = Schedule.triangular(high: 0.05, low: 0.01, cycle: 4)
        for (half, rate) in [0.05, 0.04, 0.03, 0.02, 0.01, 0.02, 0.03, 0.04].enumerated() {
            #expect(abs(triangular.rate(at: Double(half) / 2) - rate) < 1e-12)
        }
    }

    @Test("linear and cosine schedules end where they say and stay there")
    func ends() {
        for schedule in [Schedule.linear(from: 1, to: 0.1, steps: 11), .cosine(from: 1, to: 0.1, steps: 11)] {
            #expect(schedule.rate(at: 0) == 1)
            #expect(abs(schedule.rate(at: 5) - 0.55) < 1e-12)
            #expect(abs(schedule.rate(at: 10) - 0.1) < 1e-12)
            #expect(abs(schedule.rate(at: 50) - 0.1) < 1e-12)
        }
    }

    @Test("Adam's steps are those of its equations")
    func adam() throws {
        var weights = NamedTensors([("w", try Tensor([Float(1), -2], shape: [2]))])
        var adam = try Adam(for: weights)
        var w = [1.0, -2.0], m = [0.0, 0.0], v = [0.0, 0.0]
        for step in 1...20 {
            let gradient = w.map { 3 * $0 + 1 }
            for index in 0..<2 {
                m[index] = 0.9 * m[index] + 0.1 * gradient[index]
                v[index] = 0.999 * v[index] + 0.001 * gradient[index] * gradient[index]
                w[index] -= 0.1 * (m[index] / (1 - pow(0.9, Double(step)))) / ((v[index] / (1 - pow(0.999, Double(step)))).squareRoot() + 1e-8)
            }
            let tensor = try weights.tensor("w")
            try adam.update(&weights, gradient: NamedTensors([("w", try tensor * 3 + 1)]), rate: 0.1)
        }
        for (found, expected) in zip(try weights.tensor("w").doubles(), w) { #expect(abs(found - expected) < 1e-5) }
    }

    @Test("a pull towards a centre is a Gaussian prior's gradient")
    func pulled() throws {
        let key = RandomKey(seed: 21), n = 37
        let w = NamedTensors([("w", try key.folding(0).normal([n]))]), g = NamedTensors([("w", try key.folding(1).normal([n]))])
        let centre = NamedTensors([("w", try key.folding(2).normal([n]))]), strength = NamedTensors([("w", try key.folding(3).normal([n]).squared())])
        var pulled = w, plain = w
        var one = Adam(first: try w.zeros(), second: try w.zeros(), steps: 0, pull: (centre, strength)), other = try Adam(for: w)
        for _ in 0..<5 {
            let whole = try g.zip(plain, centre, strength) { (g, o) throws(AccrueError) in try g + (try (o[0] - o[1]) * o[2]) }
            try other.update(&plain, gradient: whole, rate: 0.1)
            try one.update(&pulled, gradient: g, rate: 0.1)
        }
        #expect(try (pulled.tensor("w") - plain.tensor("w")).absolute().largest().item() < 1e-5)
    }

    @Test("Adam on a factorised Gaussian takes the steps of its equations, on every instruction set")
    func factorised() throws {
        let key = RandomKey(seed: 22), n = 37, share = 0.01
        func part(_ name: String, _ scale: Double = 1, _ shift: Double = 0) throws -> NamedTensors {
            NamedTensors([("w", try key.folding(name).normal([n]) * scale + shift)])
        }
        let start = FactorisedGaussian(mean: try part("mean"), logScale: try part("logScale", 1, -2))
        let prior = FactorisedGaussian(mean: try part("priorMean"), logScale: try part("priorLogScale", 1, -1))
        let slope = FactorisedGaussian(mean: try part("byMean"), logScale: try part("byVariance"))
        let range = -3.0 ... 0.0
        for level in FusedKernels.allCases where (try? FusedKernels.use(level)) != nil {
            defer { try? FusedKernels.use(.widest) }
            var q = start, adam = try FactorisedAdam(prior: prior, share: share, logScaleRange: range)
            var m = try start.mean.tensor("w").doubles(), s = try start.logScale.tensor("w").doubles()
            var moments = [[Double]](repeating: [Double](repeating: 0, count: n), count: 4)
            let m0 = try prior.mean.tensor("w").doubles(), s0 = try prior.logScale.tensor("w").doubles()
            let g = try slope.mean.tensor("w").doubles(), h = try slope.logScale.tensor("w").doubles()
            for step in 1...5 {
                try adam.update(&q, gradient: slope, rate: 0.02)
                func move(_ index: Int, _ first: Int, _ gradient: Double) -> Double {
                    moments[first][index] = 0.9 * moments[first][index] + 0.1 * gradient
                    moments[first + 1][index] = 0.999 * moments[first + 1][index] + 0.001 * gradient * gradient
                    let c1 = 1 - pow(0.9, Double(step)), c2 = 1 - pow(0.999, Double(step))
                    return 0.02 * moments[first][index] / c1 / ((moments[first + 1][index] / c2).squareRoot() + 1e-8)
                }
                for index in 0..<n {
                    let byScale = range.contains(s[index]) ? 2 * exp(2 * s[index]) * h[index] : 0
                    let byMean = g[index] + share * (m[index] - m0[index]) * exp(-2 * s0[index])
                    let byLogScale = byScale + share * expm1(2 * (s[index] - s0[index]))
                    m[index] -= move(index, 0, byMean)
                    s[index] -= move(index, 2, byLogScale)
                }
            }
            for (found, expected) in zip(try q.mean.tensor("w").doubles() + q.logScale.tensor("w").doubles(), m + s) {
                #expect(abs(found - expected) < 2e-5, "\(level)")
            }
        }
    }

    @Test("a posterior that is its prior stays, bit for bit, when the loss says nothing")
    func atRest() throws {
        let q = FactorisedGaussian(mean: NamedTensors([("w", try RandomKey(seed: 23).normal([1_001]))]), logScale: NamedTensors([("w", try RandomKey(seed: 24).normal([1_001]))]))
        var moved = q, adam = try FactorisedAdam(prior: q, share: 1, logScaleRange: -12.0 ... 4)
        for _ in 0..<3 { try adam.update(&moved, gradient: try q.zeros(), rate: 0.1) }
        #expect(try moved.tensors.map { try $0.tensor.bytes() } == q.tensors.map { try $0.tensor.bytes() })
    }

    @Test("variances are exp(2 log σ) within a rounding or two, over the whole range")
    func variances() throws {
        let logScales = stride(from: Float(-13), through: 5, by: 0.01).map { $0 }
        let found = try Tensor(logScales, shape: [logScales.count]).variance(logScaleIn: -12.0 ... 4).doubles()
        for (scale, variance) in zip(logScales, found) {
            let expected = exp(2 * min(4, max(-12, Double(scale))))
            #expect(abs(variance - expected) < 4e-7 * expected)
        }
    }

    @Test("momentum descent with weight decay follows its recurrence, with and without Nesterov")
    func momentum() throws {
        for nesterov in [false, true] {
            var weights = NamedTensors([("w", try .scalar(1, dtype: .f64))])
            var descent = try MomentumDescent(for: weights, momentum: 0.5, nesterov: nesterov, weightDecay: 0.1)
            var w = 1.0, b = 0.0
            for _ in 0..<10 {
                let g = 2 * w + 0.1 * w
                b = 0.5 * b + g
                w -= 0.1 * (nesterov ? g + 0.5 * b : b)
                try descent.update(&weights, gradient: try weights.map { (x) throws(AccrueError) in try x * 2 }, rate: 0.1)
            }
            #expect(abs(try weights.tensor("w").item() - w) < 1e-12)
        }
    }

    @Test("a tree with other names is refused, and a stored tree comes back equal")
    func trees() throws {
        let a = NamedTensors([("x", try .ones([2]))]), b = NamedTensors([("y", try .ones([2]))])
        #expect(throws: AccrueError.self) { try a.zip(b) { (x, _) throws(AccrueError) in x } }
        let read = try NamedTensors(Safetensors(tensors: try a.stored("p.")), prefix: "p.")
        #expect(try read.tensor("x").doubles() == [1, 1])
        try read.check(against: a, while: "testing")
        let error = #expect(throws: AccrueError.self) { try read.check(against: b, while: "testing") }
        #expect(error?.code == .corrupt)
    }

    @Test("training with the same key gives the same bytes")
    func repeatable() throws {
        func train() throws -> [TensorBytes] {
            let key = RandomKey(seed: 11)
            let x = try key.folding(1).normal([64, 1, 12, 12]), y = try key.folding(2).classes(logits: try Tensor.zeros([64, 4]))
            var weights = NamedTensors([("conv", try key.folding(3).normal([6, 1, 3, 3])), ("dense", try key.folding(4).normal([4, 6 * 25]) * 0.1)])
            var adam = try Adam(for: weights)
            for _ in 0..<10 {
                let (_, gradient) = try valueAndGradient(at: weights) { (w) throws(AccrueError) in
                    let hidden = try x.convolved(try w.tensor("conv"), nil).relu().maxPooled(2, stride: 2).reshaped([64, -1])
                    return try hidden.linear(try w.tensor("dense"), nil).crossEntropy(y)
                }
                try adam.update(&weights, gradient: gradient, rate: 0.01)
            }
            return try weights.tensors.map { try $0.tensor.bytes() }
        }
        EngineFingerprint.beginThread()
        #expect(try train() == train())
    }
}
