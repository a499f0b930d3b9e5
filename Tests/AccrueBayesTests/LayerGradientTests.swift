import AccrueBayes
import AccrueCore
import AccrueTensor
import Foundation
import Testing

/// Gradients of layers and likelihoods by every weight and input, in Float64, against central differences.
@Suite struct LayerGradientTests {
    /// Each tensor's gradient against differences along three random directions.
    private func check(_ weights: NamedTensors, _ f: (NamedTensors) throws(AccrueError) -> Tensor) throws {
        let (_, gradient) = try valueAndGradient(at: weights) { (w) throws(AccrueError) in try f(w) }
        let h = 1e-6
        for (name, tensor) in gradient.tensors {
            for direction in 0..<3 {
                let along = try RandomKey(seed: 99).folding(name).folding(direction).normal(tensor.shape, dtype: .f64)
                func moved(_ step: Double) throws(AccrueError) -> NamedTensors {
                    var list: [(String, Tensor)] = []
                    for (other, value) in weights.tensors { list.append((other, other == name ? try value + (along * step) : value)) }
                    return NamedTensors(list)
                }
                let slope = try (f(moved(h)).item() - f(moved(-h)).item()) / (2 * h)
                let predicted = try (tensor * along).sum().item()
                #expect(abs(slope - predicted) <= 1e-6 * max(1, abs(slope)), "\(name): \(slope) against \(predicted)")
            }
        }
    }

    private static let key = RandomKey(seed: 12)
    private static func normal(_ name: String, _ shape: [Int]) throws(AccrueError) -> (String, Tensor) {
        (name, try key.folding(name).normal(shape, dtype: .f64))
    }

    /// A network of these layers on inputs of this shape: a fixed combination of its outputs.
    private func check(_ layers: [Layer], inputs: [Int], _ weights: [(String, Tensor)]) throws {
        let network = Network(layers: layers, inputShape: Array(inputs.dropFirst()))
        try check(NamedTensors(weights + [try Self.normal("inputs", inputs)])) { (w) throws(AccrueError) in
            var pass = PlainPass(w)
            let outputs = try network.apply(try w.tensor("inputs"), &pass)
            return try (outputs.tanh() * (try Self.key.folding("combination").normal(outputs.shape, dtype: .f64))).sum()
        }
    }

    @Test("a dense layer")
    func dense() throws {
        try check([.affine(.init("a", .dense, inputs: 5, outputs: 4))], inputs: [3, 5], [try Self.normal("a.weight", [4, 5]), try Self.normal("a.bias", [4])])
    }

    @Test("a convolution, with and without padding", arguments: [0, 1])
    func convolution(padding: Int) throws {
        try check(
            [.affine(.init("a", .convolution(kernel: 3, padding: padding), inputs: 2, outputs: 3))], inputs: [2, 2, 5, 6],
            [try Self.normal("a.weight", [3, 2, 3, 3]), try Self.normal("a.bias", [3])])
    }

    @Test("max-pooling, by itself and after a convolution and a ReLU")
    func pooling() throws {
        try check([.maxPool(size: 2, stride: 2)], inputs: [2, 2, 5, 4], [])
        try check(
            [.affine(.init("a", .convolution(kernel: 3, padding: 1), inputs: 2, outputs: 3)), .relu, .maxPool(size: 2, stride: 2), .flatten], inputs: [2, 2, 6, 6],
            [try Self.normal("a.weight", [3, 2, 3, 3]), try Self.normal("a.bias", [3])])
    }

    @Test("a batch norm with the batch's own statistics, for features and for channels")
    func batchNorm() throws {
        let weights = [try Self.normal("a.scale", [3]), try Self.normal("a.shift", [3])]
        try check([.batchNorm(.init(name: "a", features: 3))], inputs: [6, 3], weights)
        try check([.batchNorm(.init(name: "a", features: 3))], inputs: [4, 3, 2, 2], weights)
    }

    @Test("−log softmax, Bernoulli, and Gaussian with fixed and with learned noise, summed and averaged", arguments: [Reduction.sum, .mean])
    func likelihoods(_ reduction: Reduction) throws {
        let cases: [(Likelihood, Int, Tensor)] = [
            (.softmax(classes: 3), 3, try Tensor([0, 2, 1, 2])), (.bernoulli, 1, try Tensor([0.0, 1, 1, 0], shape: [4])),
            (.gaussian(noisePrecision: 2.5), 1, try Tensor([0.3, -1, 2, 0.1], shape: [4])), (.gaussian(noisePrecision: nil), 1, try Tensor([0.3, -1, 2, 0.1], shape: [4])),
        ]
        for (likelihood, outputs, targets) in cases {
            try check(NamedTensors([try Self.normal("outputs", [4, outputs]), (Likelihood.logVariance, try .scalar(-0.4, dtype: .f64))])) { (w) throws(AccrueError) in
                try likelihood.loss(try w.tensor("outputs"), targets, weights: w, reduction)
            }
        }
    }

    @Test("losses are −log densities, row by row")
    func densities() throws {
        let weights = NamedTensors([(Likelihood.logVariance, try .scalar(log(0.25), dtype: .f64))])
        func rows(_ likelihood: Likelihood, _ outputs: [Double], _ targets: Tensor) throws -> [Double] {
            try likelihood.loss(try Tensor(outputs, shape: [2, outputs.count / 2]), targets, weights: weights, .none).doubles()
        }
        let total = exp(1.0) + exp(2.0)
        let softmax = try rows(.softmax(classes: 2), [1, 2, 2, 1], try Tensor([0, 0])), bernoulli = try rows(.bernoulli, [0.7, -0.2], try Tensor([1.0, 0], shape: [2]))
        #expect(abs(softmax[0] + log(exp(1) / total)) < 1e-12 && abs(softmax[1] + log(exp(2) / total)) < 1e-12)
        #expect(abs(bernoulli[0] - log(1 + exp(-0.7))) < 1e-12 && abs(bernoulli[1] - log(1 + exp(-0.2))) < 1e-12)
        for likelihood in [Likelihood.gaussian(noisePrecision: 4), .gaussian(noisePrecision: nil)] {
            let gaussian = try rows(likelihood, [1, 3], try Tensor([1.5, 3], shape: [2]))
            #expect(abs(gaussian[0] - (0.5 * log(2 * .pi * 0.25) + 0.5)) < 1e-12 && abs(gaussian[1] - 0.5 * log(2 * .pi * 0.25)) < 1e-12)
        }
    }

    @Test("outputs drawn by local reparameterisation have the moments of drawn weights, for dense layers and at every position of a convolution")
    func localReparameterisation() throws {
        let key = RandomKey(seed: 40), n = 20_000
        for layer in [Layer.Affine("a", .dense, inputs: 3, outputs: 2), Layer.Affine("a", .convolution(kernel: 2, padding: 0), inputs: 1, outputs: 2)] {
            let isDense = layer.kind == .dense
            let shape = isDense ? [1, 3] : [1, 1, 3, 3]
            let mean = NamedTensors([(layer.weight, try key.folding(1).normal(layer.weightShape)), (layer.bias, try key.folding(2).normal([2]))])
            let variance = try mean.map { (m) throws(AccrueError) in try (try key.folding(m.elementCount).normal(m.shape)).squared() * 0.3 }
            let x = try key.folding(4).normal(shape)
            let pass = LocalReparameterisationPass(mean: mean, variance: variance, key: key.folding(5))
            let drawn = try pass.affine(layer, try x.expanded([n] + shape.dropFirst())).reshaped([n, -1]).cast(to: .f64)
            // In closed form: mean through the means, variance through the squares.
            let means = PlainPass(mean), variances = PlainPass(variance)
            let m = try means.affine(layer, x).reshaped([-1]).doubles(), v = try variances.affine(layer, try x.squared()).reshaped([-1]).doubles()
            let sampleMean = try drawn.mean(0), sampleVariance = try (drawn - sampleMean).squared().mean(0).doubles(), found = try sampleMean.doubles()
            for index in m.indices {
                #expect(abs(found[index] - m[index]) < 5 * (v[index] / Double(n)).squareRoot())
                #expect(abs(sampleVariance[index] - v[index]) < 5 * v[index] * (2 / Double(n)).squareRoot())
            }
        }
    }
}
