import AccrueBayes
import AccrueCore
import AccrueTensor

/// Diagonal plus low rank over all of the network's weights: Λ = diag(D) + W Wᵀ with `rank` columns.
///
/// One set of columns for the whole network, not one a layer: Fisher information couples layers, and equal memory then goes where it says most.
/// Information adds as natural parameters do: columns are put side by side and truncated to the `rank` leading directions; the diagonal of what is dropped
/// goes to D. So the diagonal of Λ is exact (up to rounding) for any batches and shards; what is approximate is everything off the diagonal that was
/// dropped, and, since one truncation follows the other, the directions depend a little on how rows were cut. Shards are taken in their order.
/// Source: Chang, Durán-Martín, Shestopaloff, Jones & Murphy 2023 (LO-FI, arXiv 2305.19535), here with the Fisher information: of drawn labels for softmax,
/// exact for Gaussian and Bernoulli likelihoods.
///
/// W is kept as its transpose, a tensor [rank] + shape for each weight.
struct LowRankFamily: PrecisionFamily {
    let model: IncrementalModel
    let rank: Int

    private func shapes() -> [(name: String, shape: [Int])] {
        model.network.affineLayers.flatMap { layer in [(name: layer.weight, shape: layer.weightShape)] + (layer.hasBias ? [(name: layer.bias, shape: [layer.outputs])] : []) }
    }

    func none() throws(AccrueError) -> NamedTensors {
        NamedTensors(try shapes().map { (member) throws(AccrueError) in (member.name, try .zeros([rank] + member.shape)) })
    }

    func product(_ coupling: NamedTensors, _ x: NamedTensors) throws(AccrueError) -> NamedTensors {
        // Vectors of one dimension: the library then takes its matrix-vector kernels, which read W once.
        var along = try Tensor.zeros([rank])
        for (name, columns) in coupling.tensors { along = try along + (try columns.reshaped([rank, -1]).matmul(try x.tensor(name).reshaped([-1]))) }
        return NamedTensors(
            try coupling.tensors.map { (name, columns) throws(AccrueError) in
                (name, try columns.reshaped([rank, -1]).transposed().matmul(along).reshaped(Array(columns.shape.dropFirst())))
            })
    }

    func information(_ weights: NamedTensors, _ batch: Batch, key: RandomKey) throws(AccrueError) -> Information {
        guard let gradients = try model.informationGradients(weights, batch, drawing: key).first else { preconditionFailure("labels are drawn once") }
        let rows = batch.inputs.rowCount
        var products = try Tensor.zeros([rows, rows], dtype: .f64)
        for name in gradients.keys.sorted() { if let part = gradients[name] { products = try products + (try part.products().cast(to: .f64)) } }
        let leading = try self.leading(products)
        var diagonal: [(String, Tensor)] = [], coupling: [(String, Tensor)] = []
        for (name, shape) in shapes() {
            guard let gradient = gradients[name] else { continue }
            let columns = try gradient.combined(leading)
            diagonal.append((name, try rest(try gradient.squares(), columns).reshaped(shape)))
            coupling.append((name, try columns.reshaped([rank] + shape)))
        }
        return Information(diagonal: NamedTensors(diagonal), coupling: NamedTensors(coupling))
    }

    func appended(_ coupling: NamedTensors) throws(AccrueError) -> NamedTensors {
        var list: [(String, Tensor)] = []
        for (name, expected) in try none().tensors {
            // [rank] + the weight's shape: outputs are the second dimension.
            let columns = try coupling.tensor(name)
            var more = expected.shape
            more[1] -= columns.shape[1]
            list.append((name, more[1] == 0 ? columns : try .concatenated([columns, try .zeros(more)], dim: 1)))
        }
        return NamedTensors(list)
    }

    func scaled(_ coupling: NamedTensors, by factor: Double) throws(AccrueError) -> NamedTensors {
        try coupling.map { (columns) throws(AccrueError) in try columns * factor.squareRoot() }
    }

    func sum(_ couplings: [NamedTensors]) throws(AccrueError) -> (coupling: NamedTensors, dropped: NamedTensors) {
        guard let first = couplings.first else { return (try none(), NamedTensors()) }
        guard couplings.count > 1 else { return (first, NamedTensors()) }
        func lines(_ name: String) throws(AccrueError) -> [Tensor] {
            try couplings.map { (part) throws(AccrueError) in try part.tensor(name).reshaped([rank, -1]) }
        }
        // Columns are never copied beside each other: inner products part by part.
        let count = couplings.count
        var products = try Tensor.zeros([rank * count, rank * count], dtype: .f64)
        for (name, _) in shapes() {
            let parts = try lines(name)
            products = try products + (try Tensor.concatenated(
                try parts.map { (left) throws(AccrueError) in
                    try .concatenated(try parts.map { (right) throws(AccrueError) in try left.matmul(try right.transposed()) }, dim: 1)
                }).cast(to: .f64))
        }
        let leading = try self.leading(products).transposed()
        var coupling: [(String, Tensor)] = [], dropped: [(String, Tensor)] = []
        for (name, shape) in shapes() {
            var columns: Tensor?, squares: Tensor?
            for (index, part) in try lines(name).enumerated() {
                let share = try leading.rows(index * rank..<(index + 1) * rank).transposed().matmul(part), square = try part.squared().sum(0)
                if let sum = columns { columns = try sum + share } else { columns = share }
                if let sum = squares { squares = try sum + square } else { squares = square }
            }
            guard let columns, let squares else { continue }
            dropped.append((name, try rest(squares, columns).reshaped(shape)))
            coupling.append((name, try columns.reshaped([rank] + shape)))
        }
        return (NamedTensors(coupling), NamedTensors(dropped))
    }

    /// Draws D^(−½) (I + V Vᵀ)^(−½) z with V = D^(−½) W. With VᵀV = Q S² Qᵀ and a = √(1 + S²), (I + V Vᵀ)^(−½) = I − V Q diag(1 / (a(a + 1))) Qᵀ Vᵀ: no
    /// differences of near numbers, and O(weights · rank).
    func draws(_ diagonal: NamedTensors, _ coupling: NamedTensors) throws(AccrueError) -> (@Sendable (RandomKey) throws(AccrueError) -> NamedTensors)? {
        let deviation = try diagonal.map { (precision) throws(AccrueError) in try precision.reciprocalSquareRoot() }
        var whitened: [(name: String, columns: Tensor)] = []
        var products = try Tensor.zeros([rank, rank], dtype: .f64)
        for (name, columns) in coupling.tensors {
            let scaled = try (try columns.reshaped([rank, -1])) * (try deviation.tensor(name).reshaped([1, -1]))
            whitened.append((name, scaled))
            products = try products + (try scaled.matmul(try scaled.transposed()).cast(to: .f64))
        }
        let (values, vectors) = SymmetricMatrix(size: rank, elements: try products.doubles()).eigen()
        var inner = [Double](repeating: 0, count: rank * rank)
        for (value, vector) in zip(values, vectors) {
            let root = (1 + max(0, value)).squareRoot()
            for i in 0..<rank { for j in 0..<rank { inner[i * rank + j] += vector[i] * vector[j] / (root * (root + 1)) } }
        }
        let middle = try Tensor(inner, shape: [rank, rank]).cast(to: .f32), known = whitened
        return { (key) throws(AccrueError) in
            var noise: [String: Tensor] = [:]
            for (name, spread) in deviation.tensors { noise[name] = try key.folding(name).normal(spread.shape) }
            var along = try Tensor.zeros([rank])
            for (name, columns) in known { if let z = noise[name] { along = try along + (try columns.matmul(try z.reshaped([-1]))) } }
            let back = try middle.matmul(along)
            for (name, columns) in known { if let z = noise[name] { noise[name] = try z - (try columns.transposed().matmul(back).reshaped(z.shape)) } }
            var list: [(String, Tensor)] = []
            for (name, spread) in deviation.tensors { if let z = noise[name] { list.append((name, try z * spread)) } }
            return NamedTensors(list)
        }
    }

    /// The `rank` leading eigenvectors of inner products, [rank, count]; rows of zeros where there are fewer.
    private func leading(_ products: Tensor) throws(AccrueError) -> Tensor {
        let count = products.rowCount
        let vectors = SymmetricMatrix(size: count, elements: try products.doubles()).eigen().vectors.prefix(rank)
        let values = vectors.flatMap { $0.map(Float.init) }
        return try Tensor(values + [Float](repeating: 0, count: rank * count - values.count), shape: [rank, count])
    }

    /// What columns leave of a diagonal, never below zero.
    private func rest(_ squares: Tensor, _ columns: Tensor) throws(AccrueError) -> Tensor { try (squares - (try columns.squared().sum(0))).maximum(0) }
}
