import AccrueBayes
import AccrueCore
import AccrueTensor
import Foundation
import Testing

@Suite("Predictions of the network made linear in its weights")
struct LinearisationTests {
    private let key = RandomKey(seed: 11)
    private let schema = Schema([
        TensorSchema("inputs", role: .input, dtype: .f32, shape: [3]), TensorSchema("targets", role: .target, dtype: .f32, shape: []),
    ])
    private let network = Network(
        layers: [.affine(.init("hidden", .dense, inputs: 3, outputs: 20)), .relu, .affine(.init("last", .dense, inputs: 20, outputs: 1))], inputShape: [3])
    private let likelihood = Likelihood.gaussian(noisePrecision: nil)

    /// A network's weights, and a way from there.
    private func weights() throws -> (centre: NamedTensors, way: NamedTensors) {
        var centre = try network.initialWeights(key: key).tensors.map { ($0.name, $0.tensor) }
        centre.append((Likelihood.logVariance, try Tensor([-1] as [Float], shape: [1])))
        let way = try centre.map { ($0.0, try key.folding("way").folding($0.0).normal($0.1.shape) * 0.3) }
        return (NamedTensors(centre), NamedTensors(way))
    }

    private func predicted(_ draw: NamedTensors, around centre: NamedTensors?, _ inputs: Tensor) throws -> (mean: [Double], aleatoric: [Double]) {
        let linearisation = try centre.map { Linearisation(centre: try PreparedMember(NetworkMember($0), network: network, likelihood: likelihood)) }
        let posterior = NetworkPosterior(
            schema: schema, design: try Design(schema: schema, network: network, likelihood: likelihood), network: network, likelihood: likelihood,
            linearisation: linearisation, description: [:]
        ) { (_) throws(AccrueError) in NetworkMember(draw) }
        let answer = try posterior.answer(QueryBytes(verb: "predict", header: ["draws": 1], tensors: ["inputs": try inputs.bytes()]), key: key)
        return (try #require(answer.tensors["mean"]).doubles(), try #require(answer.tensors["aleatoric"]).doubles())
    }

    @Test("a draw predicts what the gradient by the weights says, its noise likewise")
    func slope() throws {
        EngineFingerprint.beginThread()
        let (centre, way) = try weights(), inputs = try key.folding("inputs").normal([30, 3])
        func along(_ share: Double) throws -> NamedTensors { try centre.zip(way) { (m, d) throws(AccrueError) in try m + (try d[0] * share) } }
        let found = try predicted(try along(Linearisation.step), around: centre, inputs)
        let whole = try predicted(try along(1), around: nil, inputs).mean
        var bent = 0.0
        for row in 0..<30 {
            let (value, gradient) = try valueAndGradient(at: centre) { (weights) throws(AccrueError) in
                var pass = PlainPass(weights)
                return try network.apply(try inputs.rows(row..<row + 1), &pass).sum()
            }
            var truth = try value.item()
            for (name, slope) in gradient.tensors where name != Likelihood.logVariance { truth += try (slope * (try way.tensor(name))).sum().item() }
            // What is not linear is left to the share of the step; a unit that turns on within it, and rounding, are the rest.
            #expect(abs(found.mean[row] - truth) < 3 * Linearisation.step * abs(whole[row] - truth) + 5e-3)
            bent = max(bent, abs(whole[row] - truth))
            #expect(abs(log(found.aleatoric[row]) - 0.5 * (-1 + (try way.tensor(Likelihood.logVariance).item()))) < 1e-3)
        }
        #expect(bent > 0.05)
    }
}
