import AccrueBayes
import AccrueCore
import AccrueTensor

/// A layer's weights and biases together: Λ = D + (A ⊗ S) / n, with A the sum over rows of the outer products of what goes in, S that of the slopes of what
/// comes out, n the rows. Layers are independent of each other.
///
/// D is the first prior alone, the same number all over a layer, so Λ's eigenvectors are products of A's and S's, and draws are exact. A, S and n add:
/// over rows, batches and shards that is exact for the factors. The sum of two rounds' products is taken to be the product of their sums over the sum of rows,
/// which is exact where the rounds are alike.
/// Source: Ritter, Botev & Barber 2018 (arXiv 1805.07810), online Laplace with Kronecker factors; that sums are weighted by rows is this project's.
struct KroneckerFamily: PrecisionFamily {
    let model: IncrementalModel

    /// Numbers that a layer may take in, or give out: eigenvectors take some ten times size³ multiplications a version.
    static let sizeMax = 4_096

    /// - Throws: `limitExceeded` when a layer is too wide.
    init(model: IncrementalModel) throws(AccrueError) {
        self.model = model
        for layer in model.network.affineLayers where max(Self.into(layer), layer.outputs) > Self.sizeMax {
            throw AccrueError(
                .limitExceeded, while: "reading the settings of \(IncrementalBayes.name)",
                "'family' is kronecker, and layer '\(layer.name)' has \(Self.into(layer)) numbers in and \(layer.outputs) out; at most \(Self.sizeMax) are allowed",
                hint: "use family lowRank, channel or diagonal, or a smaller model")
        }
    }

    private static func into(_ layer: Layer.Affine) -> Int { layer.fanIn + (layer.hasBias ? 1 : 0) }
    private static func inputs(_ layer: Layer.Affine) -> String { "\(layer.name).inputs" }
    private static func slopes(_ layer: Layer.Affine) -> String { "\(layer.name).slopes" }
    private static let rows = "rows"

    func none() throws(AccrueError) -> NamedTensors {
        var list: [(String, Tensor)] = [(Self.rows, try .zeros([1]))]
        for layer in model.network.affineLayers {
            let into = Self.into(layer)
            list += [(Self.inputs(layer), try .zeros([into, into])), (Self.slopes(layer), try .zeros([layer.outputs, layer.outputs]))]
        }
        return NamedTensors(list)
    }

    func product(_ coupling: NamedTensors, _ x: NamedTensors) throws(AccrueError) -> NamedTensors {
        let share = try Self.share(coupling)
        var list: [(String, Tensor)] = []
        for layer in model.network.affineLayers {
            let product = try coupling.tensor(Self.slopes(layer)).matmul(try joined(x, layer)).matmul(try coupling.tensor(Self.inputs(layer)))
            list += try parted(try product * share, layer)
        }
        return NamedTensors(list)
    }

    func information(_ weights: NamedTensors, _ batch: Batch, key: RandomKey) throws(AccrueError) -> Information {
        var diagonal: [(String, Tensor)] = []
        for layer in model.network.affineLayers {
            for name in [layer.weight] + (layer.hasBias ? [layer.bias] : []) { diagonal.append((name, try weights.tensor(name).zerosLike())) }
        }
        let passes = try model.informationPasses(weights, batch, drawing: key) { (function) throws(AccrueError) in
            try model.network.kroneckerFactors(weights, inputs: batch.inputs, of: function)
        }
        var sums: [String: KroneckerFactors] = [:]
        for factors in passes {
            for (name, part) in factors {
                // What goes in is the same for all roots of the outputs' information.
                if let sum = sums[name] { sums[name]?.slopes = try sum.slopes + part.slopes } else { sums[name] = part }
            }
        }
        var list: [(String, Tensor)] = [(Self.rows, try .full([1], Double(batch.inputs.rowCount)))]
        for layer in model.network.affineLayers {
            guard let sum = sums[layer.name] else { continue }
            list += [(Self.inputs(layer), sum.inputs), (Self.slopes(layer), sum.slopes)]
        }
        return Information(diagonal: NamedTensors(diagonal), coupling: NamedTensors(list))
    }

    func scaled(_ coupling: NamedTensors, by factor: Double) throws(AccrueError) -> NamedTensors {
        try coupling.map { (part) throws(AccrueError) in try part * factor }
    }

    func sum(_ couplings: [NamedTensors]) throws(AccrueError) -> (coupling: NamedTensors, dropped: NamedTensors) {
        var sum = try none()
        for part in couplings { sum = try sum.zip(part) { (sum, part) throws(AccrueError) in try sum + part[0] } }
        return (sum, NamedTensors())
    }

    func draws(_ diagonal: NamedTensors, _ coupling: NamedTensors) throws(AccrueError) -> (@Sendable (RandomKey) throws(AccrueError) -> NamedTensors)? {
        struct Basis: Sendable {
            let layer: Layer.Affine
            /// Eigenvectors in columns, and standard deviations along their products, [outputs, numbers in].
            let outputs: Tensor, inputs: Tensor, deviation: Tensor
        }
        let share = try Self.share(coupling)
        let bases = try model.network.affineLayers.map { (layer) throws(AccrueError) -> Basis in
            let inputs = try coupling.tensor(Self.inputs(layer)).cast(to: .f64).symmetricEigen()
            let outputs = try coupling.tensor(Self.slopes(layer)).cast(to: .f64).symmetricEigen()
            let along = try (try outputs.values.maximum(0).reshaped([-1, 1])) * (try inputs.values.maximum(0).reshaped([1, -1]))
            let precision = try (along * share) + (try diagonal.tensor(layer.weight).cast(to: .f64).mean())
            return Basis(
                layer: layer, outputs: try outputs.vectors.cast(to: .f32), inputs: try inputs.vectors.transposed().cast(to: .f32),
                deviation: try precision.reciprocalSquareRoot().cast(to: .f32))
        }
        let inLayers = Set(bases.flatMap { [$0.layer.weight, $0.layer.bias] })
        let rest = try diagonal.tensors.filter { !inLayers.contains($0.name) }.map { (name, precision) throws(AccrueError) in (name, try precision.reciprocalSquareRoot()) }
        return { (key) throws(AccrueError) in
            var list: [(String, Tensor)] = []
            for (name, spread) in rest { list.append((name, try key.folding(name).draw(mean: try spread.zerosLike(), deviation: spread))) }
            for basis in bases {
                let z = try key.folding(basis.layer.name).normal(basis.deviation.shape) * basis.deviation
                list += try parted(try basis.outputs.matmul(z).matmul(basis.inputs), basis.layer)
            }
            return NamedTensors(list)
        }
    }

    /// 1/n; 0 before there are rows.
    private static func share(_ coupling: NamedTensors) throws(AccrueError) -> Double {
        let rows = try coupling.tensor(rows).item()
        return rows > 0 ? 1 / rows : 0
    }

    /// A layer's weights and biases as [outputs, numbers in].
    private func joined(_ x: NamedTensors, _ layer: Layer.Affine) throws(AccrueError) -> Tensor {
        let weight = try x.tensor(layer.weight).reshaped([layer.outputs, -1])
        return layer.hasBias ? try .concatenated([weight, try x.tensor(layer.bias).reshaped([-1, 1])], dim: 1) : weight
    }

    private func parted(_ joined: Tensor, _ layer: Layer.Affine) throws(AccrueError) -> [(String, Tensor)] {
        guard layer.hasBias else { return [(layer.weight, try joined.reshaped(layer.weightShape))] }
        let lines = try joined.transposed()
        let weight = try lines.rows(0..<layer.fanIn).transposed().reshaped(layer.weightShape)
        return [(layer.weight, weight), (layer.bias, try lines.rows(layer.fanIn..<layer.fanIn + 1).reshaped([layer.outputs]))]
    }
}
