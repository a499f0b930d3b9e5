import AccrueBayes
import AccrueCore
import AccrueTensor

/// Full precision inside blocks of weights, independence between them and for all other weights: `channel`, `lastLayer` and `full`.
///
/// C holds the blocks without their diagonals (those are in D), in F32. Its sums over rows, batches and shards are exact, as D's are. Draws solve with Cholesky
/// factors in Float64, by LAPACK.
/// Source: "channel-factorised" Gaussians of Kochurov et al. 2018 (arXiv 1802.07329): a kernel's weights together.
struct BlockFamily: PrecisionFamily {
    /// Tensors whose elements, one tensor after the other, are cut into blocks of equal size.
    struct Group: Sendable {
        let name: String
        let members: [(name: String, shape: [Int])]
        /// Weights of a block.
        let size: Int
        var elements: Int { members.reduce(0) { $0 + $1.shape.reduce(1, *) } }
        var blocks: Int { elements / size }
    }

    let model: IncrementalModel
    let groups: [Group]
    /// Whether no labels are drawn for the blocks: their information is then the generalised Gauss–Newton matrix.
    let isExact: Bool

    /// Weights that one block may have: C is then 256 MiB, its factor 512 MiB and size³/6 multiplications a version.
    static let sizeMax = 8_192

    /// Each kernel of a convolution is a block of kernel · kernel weights; dense layers and biases are independent weights.
    static func channel(_ model: IncrementalModel) -> BlockFamily {
        let groups = model.network.affineLayers.compactMap { layer -> Group? in
            guard case .convolution(let kernel, _) = layer.kind else { return nil }
            return Group(name: layer.weight, members: [(layer.weight, layer.weightShape)], size: kernel * kernel)
        }
        return BlockFamily(model: model, groups: groups, isExact: false)
    }

    /// The last layer's weights and biases are one block, all other weights are independent.
    /// - Throws: `limitExceeded` when the layer is too large.
    static func lastLayer(_ model: IncrementalModel) throws(AccrueError) -> BlockFamily {
        try one(model, "lastLayer", Array(model.network.affineLayers.suffix(1)))
    }

    /// All of the network's weights are one block.
    /// - Throws: `limitExceeded` when there are too many.
    static func full(_ model: IncrementalModel) throws(AccrueError) -> BlockFamily { try one(model, "full", model.network.affineLayers) }

    private static func one(_ model: IncrementalModel, _ name: String, _ layers: [Layer.Affine]) throws(AccrueError) -> BlockFamily {
        let members = layers.flatMap { layer in [(name: layer.weight, shape: layer.weightShape)] + (layer.hasBias ? [(name: layer.bias, shape: [layer.outputs])] : []) }
        let size = members.reduce(0) { $0 + $1.shape.reduce(1, *) }
        guard size <= sizeMax else {
            throw AccrueError(
                .limitExceeded, while: "reading the settings of \(IncrementalBayes.name)",
                "'family' is \(name), whose block would have \(size) weights; at most \(sizeMax) are allowed",
                hint: "use family lowRank, channel or diagonal, or a smaller model")
        }
        return BlockFamily(model: model, groups: [Group(name: name, members: members, size: size)], isExact: true)
    }

    func none() throws(AccrueError) -> NamedTensors {
        var list: [(String, Tensor)] = []
        for group in groups { list.append((group.name, try .zeros([group.blocks, group.size, group.size]))) }
        return NamedTensors(list)
    }

    func product(_ coupling: NamedTensors, _ x: NamedTensors) throws(AccrueError) -> NamedTensors {
        var list: [(String, Tensor)] = []
        for group in groups {
            let line = try gathered(x, group).reshaped([group.blocks, group.size, 1])
            list += try scattered(try coupling.tensor(group.name).matmul(line).reshaped([-1]), group)
        }
        return NamedTensors(list)
    }

    func information(_ weights: NamedTensors, _ batch: Batch, key: RandomKey) throws(AccrueError) -> Information {
        var diagonal = try DiagonalFamily(model: model).information(weights, batch, key: key).diagonal
        guard !groups.isEmpty else { return Information(diagonal: diagonal, coupling: NamedTensors()) }
        var coupling = try none()
        var squares = try groups.map { (group) throws(AccrueError) in try Tensor.zeros([group.elements]) }
        for gradients in try model.informationGradients(weights, batch, drawing: isExact ? nil : key) {
            var list: [(String, Tensor)] = []
            for (index, group) in groups.enumerated() {
                var parts: [Tensor] = []
                for member in group.members { if let gradient = gradients[member.name] { parts.append(try gradient.rows()) } }
                let rows = try Tensor.concatenated(parts, dim: 1)
                squares[index] = try squares[index] + (try rows.squared().sum(0))
                let each = try rows.reshaped([rows.rowCount, group.blocks, group.size]).permuted([1, 2, 0])
                list.append((group.name, try each.matmul(try each.permuted([0, 2, 1]))))
            }
            coupling = try coupling.zip(NamedTensors(list)) { (sum, part) throws(AccrueError) in try sum + part[0] }
        }
        var replaced = diagonal.tensors.map { ($0.name, $0.tensor) }
        for (group, line) in zip(groups, squares) { replaced += try scattered(line, group) }
        diagonal = NamedTensors(replaced)
        coupling = try coupling.map { (blocks) throws(AccrueError) in
            let size = blocks.shape[1]
            let unit = try Tensor(Array(0..<size)).oneHot(size).cast(to: .f32)
            return try blocks * (try unit.negated() + 1)
        }
        return Information(diagonal: diagonal, coupling: coupling)
    }

    func scaled(_ coupling: NamedTensors, by factor: Double) throws(AccrueError) -> NamedTensors {
        try coupling.map { (blocks) throws(AccrueError) in try blocks * factor }
    }

    func sum(_ couplings: [NamedTensors]) throws(AccrueError) -> (coupling: NamedTensors, dropped: NamedTensors) {
        var sum = try none()
        for part in couplings { sum = try sum.zip(part) { (sum, part) throws(AccrueError) in try sum + part[0] } }
        return (sum, NamedTensors())
    }

    func draws(_ diagonal: NamedTensors, _ coupling: NamedTensors) throws(AccrueError) -> (@Sendable (RandomKey) throws(AccrueError) -> NamedTensors)? {
        guard !groups.isEmpty else { return nil }
        let deviation = try diagonal.map { (precision) throws(AccrueError) in try precision.reciprocalSquareRoot() }
        let factors = try groups.map { (group) throws(AccrueError) in
            try factor(try gathered(diagonal, group).cast(to: .f64), try coupling.tensor(group.name).cast(to: .f64), group)
        }
        return { (key) throws(AccrueError) in
            var list: [(String, Tensor)] = []
            for (name, spread) in deviation.tensors { list.append((name, try key.folding(name).draw(mean: try spread.zerosLike(), deviation: spread))) }
            for (group, lower) in zip(groups, factors) {
                let z = try key.folding("blocks").folding(group.name).normal([group.blocks, group.size, 1]).cast(to: .f64)
                list += try scattered(try lower.solvingTransposed(z).cast(to: .f32).reshaped([-1]), group)
            }
            return NamedTensors(list)
        }
    }

    /// The Cholesky factors of blocks that were positive definite before they were rounded.
    ///
    /// F32 holds an entry (i, j) to u = 2⁻²⁴ of itself, at most u √(Λᵢᵢ Λⱼⱼ): n u of the diagonal of n rows, added to it, outweigh what one rounding of all
    /// entries can have done. Only where the blocks as they are have no factor is that added, and then sixteen times as much, for sums that were rounded
    /// again and again.
    /// - Parameter diagonal: in one line.
    /// - Throws: `diverged` when there is none then either.
    private func factor(_ diagonal: Tensor, _ coupling: Tensor, _ group: Group) throws(AccrueError) -> Tensor {
        let own = try diagonal.reshaped([group.blocks, group.size, 1]), unit = try Tensor(Array(0..<group.size)).oneHot(group.size).cast(to: .f64)
        func raised(_ share: Double) throws(AccrueError) -> Tensor {
            try (try coupling + (try own * (1 + share) * unit)).cholesky(while: "factoring the precision of '\(group.name)'")
        }
        let rounding = Double(group.size) * 0x1p-24
        for share in [0, rounding] { do throws(AccrueError) { return try raised(share) } catch where error.code == .diverged { continue } }
        return try raised(16 * rounding)
    }

    /// A group's elements in one line.
    private func gathered(_ x: NamedTensors, _ group: Group) throws(AccrueError) -> Tensor {
        try Tensor.concatenated(try group.members.map { (member) throws(AccrueError) in try x.tensor(member.name).reshaped([-1]) })
    }

    private func scattered(_ line: Tensor, _ group: Group) throws(AccrueError) -> [(String, Tensor)] {
        var start = 0
        return try group.members.map { (member) throws(AccrueError) in
            let count = member.shape.reduce(1, *)
            defer { start += count }
            return (member.name, try line.rows(start..<start + count).reshaped(member.shape))
        }
    }
}
