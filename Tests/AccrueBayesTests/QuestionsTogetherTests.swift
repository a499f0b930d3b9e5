import AccrueBayes
import AccrueCore
import AccrueTensor
import Testing

/// Questions that are answered in one pass over the draws.
@Suite struct QuestionsTogetherTests {
    private let key = RandomKey(seed: 5)
    private let schema = Schema([
        TensorSchema("inputs", role: .input, dtype: .f32, shape: [16, 16]), TensorSchema("targets", role: .target, dtype: .u8, shape: [], classes: ["a", "b", "c"]),
    ])

    /// - Parameter drawsOutputs: whether few rows are answered from draws of the hidden layer's outputs.
    private func posterior(drawsOutputs: Bool = false) throws -> NetworkPosterior {
        let block: [Layer] = [.affine(.init("conv", .convolution(kernel: 5, padding: 0), inputs: 1, outputs: 6)), .relu, .maxPool(size: 2, stride: 2), .flatten]
        let dense: [Layer] = [.affine(.init("hidden", .dense, inputs: 216, outputs: 30)), .relu, .affine(.init("last", .dense, inputs: 30, outputs: 3))]
        let network = Network(layers: block + dense, inputShape: [1, 16, 16])
        let mean = try key.folding("mean").normal([30, 216]) * 0.1
        let moments = try DenseMoments(mean: mean, bias: nil, variance: try .full([30, 216], 0.04), biasVariance: nil)
        return NetworkPosterior(
            schema: schema, design: try Design(schema: schema, network: network, likelihood: .softmax(classes: 3)), network: network, likelihood: .softmax(classes: 3), description: [:]
        ) { (key) throws(AccrueError) in
            let weights = try network.initialWeights(key: key)
            return NetworkMember(weights, drawnOutputs: drawsOutputs ? ["hidden.weight": (moments, try key.normal([30]))] : [:])
        }
    }

    private func question(_ rows: Int, _ name: String, draws: Int = 20) throws -> QueryBytes {
        let values = try key.folding(name).normal([rows, 16, 16])
        return QueryBytes(verb: "predict", header: ["draws": .integer(draws)], tensors: ["inputs": try values.bytes()])
    }

    @Test("answers are the same bits whatever is asked beside them, and a question that fails leaves the others alone", arguments: [false, true])
    func together(drawsOutputs: Bool) throws {
        let bad = QueryBytes(verb: "predict", header: [:], tensors: ["inputs": TensorBytes([Float](repeating: .nan, count: 256), shape: [1, 16, 16])])
        let queries = [
            try question(1, "a"), try question(3, "b"), QueryBytes(verb: "describe", header: [:]), try question(1, "c", draws: 2), bad, QueryBytes(verb: "guess", header: [:]),
            try question(260, "d"), try question(7, "e"), try question(4, "g"), try question(5, "h"), try question(1, "f", draws: 16), try question(1, "a"),
        ]
        let together = try posterior(drawsOutputs: drawsOutputs).answers(queries, key: key)
        for (query, answer) in zip(queries, together) {
            let alone: Result<QueryBytes, AccrueError>
            // Another posterior, so that no draws are left from before.
            let fresh = try posterior(drawsOutputs: drawsOutputs)
            do throws(AccrueError) { alone = .success(try fresh.answer(query, key: key)) } catch { alone = .failure(error) }
            switch (answer, alone) {
            case (.success(let a), .success(let b)): #expect(a.verb == b.verb && a.header == b.header && a.tensors == b.tensors)
            case (.failure(let a), .failure(let b)): #expect(a.code == b.code && a.problem == b.problem)
            default: Issue.record("together \(answer), alone \(alone)")
            }
        }
    }

    @Test("a version that takes another's place has as many draws ready as were asked of that with the prepared key, and of itself no fewer than the standard")
    func readyDraws() throws {
        let first = try posterior(), other = key.folding("other")
        try first.prepare(for: key, following: nil)
        #expect(first.drawn(for: key) == NetworkPosterior.drawsStandard)
        _ = try first.answer(try question(1, "a", draws: 24), key: key)
        let questions = [try question(1, "b", draws: 32), try question(1, "c", draws: 32)]
        for answer in first.answers(questions, key: key) { _ = try answer.get() }
        _ = try first.answer(try question(1, "a", draws: 40), key: other)
        let second = try posterior(), third = try posterior(), next = key.folding("next")
        try second.prepare(for: next, following: first)
        #expect(second.drawn(for: next) == 32 && second.drawn(for: key) == 0)
        // Nobody asked the second one.
        try third.prepare(for: next, following: second)
        #expect(third.drawn(for: next) == NetworkPosterior.drawsStandard)
    }

    @Test("kernels for predictions say what the plain path says, within 10⁻⁵")
    func reference() throws {
        let query = try question(9, "a")
        let fast = try posterior().answer(query, key: key)
        try FusedKernels.use(.reference)
        defer { try? FusedKernels.use(.widest) }
        let plain = try posterior().answer(query, key: key)
        for (name, tensor) in plain.tensors {
            for (a, b) in zip(try #require(fast.tensors[name]).doubles(), tensor.doubles()) { #expect(abs(a - b) <= 1e-5, "\(name)") }
        }
    }
}
