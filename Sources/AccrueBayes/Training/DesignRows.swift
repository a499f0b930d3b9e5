public import AccrueCore
public import AccrueTensor

/// Which tensors of a schema a network reads, and how: their fixed transforms, and the target.
public struct Design: Sendable {
    private struct Input: Sendable {
        let spec: TensorSchema
        let pool: Int
        let scale: Double
        /// Broadcast over rows; nil: nothing to subtract or divide.
        let mean: Tensor?
        let inverseDeviation: Tensor?
    }
    private let inputs: [Input]
    private let target: TensorSchema
    private let likelihood: Likelihood
    private let inputShape: [Int]
    let targetScale: TargetScale

    /// Shape of one input of the network: the input tensor's own, or all flattened when there are several.
    public static func inputShape(_ schema: Schema) -> [Int] {
        let inputs = schema.tensors(.input)
        if inputs.count == 1 { return inputs[0].shape.isEmpty ? [1] : inputs[0].transformedShape }
        return [inputs.reduce(0) { $0 + $1.transformedShape.reduce(1, *) }]
    }

    /// - Throws: `invalidInput` when a transform does not fit its tensor, or there is no input.
    public init(schema: Schema, network: Network, likelihood: Likelihood) throws(AccrueError) {
        try self.init(schema: schema, inputShape: network.inputShape, likelihood: likelihood)
    }

    /// - Parameter inputShape: of one row, as it is to be read.
    /// - Throws: as above.
    public init(schema: Schema, inputShape: [Int], likelihood: Likelihood) throws(AccrueError) {
        let operation = "reading the schema"
        guard let target = schema.tensors(.target).first else { throw AccrueError(.invalidInput, while: operation, "there is no target tensor") }
        self.target = target
        self.likelihood = likelihood
        self.inputShape = inputShape
        targetScale = try TargetScale(target, likelihood: likelihood)
        var inputs: [Input] = []
        for spec in schema.tensors(.input) {
            func row(_ values: [Double]?, _ what: String) throws(AccrueError) -> Tensor? {
                guard let values else { return nil }
                let shape: [Int], row = spec.transformedShape
                if values.count == 1 {
                    shape = []
                } else if values.count == row.reduce(1, *) {
                    shape = row
                } else if row.count == 3, values.count == row[0] {
                    shape = [values.count, 1, 1]
                } else {
                    throw AccrueError(
                        .invalidInput, while: operation, "transform.\(what) of '\(spec.name)' has \(values.count) numbers; rows have shape \(row)",
                        hint: "give one number, one a channel, or one an element")
                }
                return try Tensor(values.map(Float.init), shape: shape)
            }
            if let bad = spec.transform?.standardDeviation?.first(where: { !($0 > 0) }) {
                throw AccrueError(.invalidInput, while: operation, "transform.standardDeviation of '\(spec.name)' holds \(bad)", hint: "use numbers above 0")
            }
            inputs.append(
                Input(
                    spec: spec, pool: spec.transform?.pool ?? 1, scale: spec.transform?.scale ?? 1, mean: try row(spec.transform?.mean, "mean"),
                    inverseDeviation: try row(spec.transform?.standardDeviation?.map { 1 / $0 }, "standardDeviation")))
        }
        guard !inputs.isEmpty else { throw AccrueError(.invalidInput, while: operation, "there is no input tensor", hint: "give one tensor 'role: input'") }
        self.inputs = inputs
    }

    /// Rows as a network reads them, of several stretches one after the other.
    public func rows(_ stretches: [Rows]) throws(AccrueError) -> DesignRows {
        var raw: [Tensor] = []
        for input in inputs {
            let rows = try joined(input.spec.name, stretches)
            raw.append(input.spec.transform?.format == .i420 ? try rows.rgbOfI420(side: input.spec.frameSide ?? 0) : rows)
        }
        var targets: Tensor?
        if stretches.allSatisfy({ $0.tensors[target.name] != nil }) { targets = try joined(target.name, stretches).reshaped([-1]) }
        return DesignRows(
            design: self, raw: raw, ownTargets: targets, targets: try targets.map { (own) throws(AccrueError) in try learned(own) },
            count: stretches.reduce(0) { $0 + $1.count })
    }

    /// Targets as the likelihood takes them: I64 class numbers, or F32 on the learned scale.
    private func learned(_ own: Tensor) throws(AccrueError) -> Tensor {
        if case .softmax = likelihood { return try own.cast(to: .i64) }
        if targetScale == .identity { return try own.cast(to: .f32) }
        return try ((try own.cast(to: .f64) - targetScale.offset) / targetScale.slope).cast(to: .f32)
    }

    private func joined(_ name: String, _ stretches: [Rows]) throws(AccrueError) -> Tensor {
        var parts: [Tensor] = []
        for rows in stretches {
            guard let bytes = rows.tensors[name] else { throw AccrueError(.invalidInput, while: "reading rows", "tensor '\(name)' is missing") }
            parts.append(try Tensor(bytes))
        }
        return parts.count == 1 ? parts[0] : try .concatenated(parts)
    }

    /// Raw rows transformed: F32 [rows] + the network's input shape.
    fileprivate func prepared(_ raw: [Tensor]) throws(AccrueError) -> Tensor {
        var parts: [Tensor] = []
        for (input, tensor) in zip(inputs, raw) {
            var x = try tensor.cast(to: .f32)
            if input.pool > 1 {
                let pictures = x.shape.count == 3 ? try x.reshaped([x.rowCount, 1] + x.shape.dropFirst()) : x
                x = try pictures.averagePooled(input.pool, stride: input.pool).reshaped([x.rowCount] + input.spec.transformedShape)
            }
            if input.scale != 1 { x = try x * input.scale }
            if let mean = input.mean { x = try x - mean }
            if let inverse = input.inverseDeviation { x = try x * inverse }
            parts.append(inputs.count == 1 ? x : try x.reshaped([tensor.rowCount, -1]))
        }
        return try (parts.count == 1 ? parts[0] : try .concatenated(parts, dim: 1)).reshaped([raw[0].rowCount] + inputShape)
    }
}

/// Rows in memory, of which batches are taken.
public struct DesignRows: Sendable {
    fileprivate let design: Design
    fileprivate let raw: [Tensor]
    fileprivate let ownTargets: Tensor?
    /// [rows], as a likelihood takes them; nil when the rows have no targets.
    public let targets: Tensor?
    public let count: Int

    /// Class numbers, or targets in their own units; nil when the rows have none.
    public func observed() throws(AccrueError) -> [Double]? { try ownTargets?.doubles() }

    var targetScale: TargetScale { design.targetScale }

    /// F32 [rows] + the network's input shape, transformed.
    public func inputs(_ range: Range<Int>) throws(AccrueError) -> Tensor {
        var parts: [Tensor] = []
        for tensor in raw { parts.append(try tensor.rows(range)) }
        return try design.prepared(parts)
    }

    /// A shard's part of `wanted` rows of a round, which are shared out over its shards, rounded up: row numbers without an order, and how many rows of the
    /// shard each of them stands for.
    public func sample(_ wanted: Int, of round: Round, key: RandomKey) -> (numbers: ArraySlice<Int>, scale: Double) {
        let wanted = min(count, (wanted * count + round.roundRows - 1) / round.roundRows)
        return (key.folding("rows").permutation(count).prefix(wanted), Double(count) / Double(wanted))
    }

    /// The rows of these numbers, with their targets.
    /// - Throws: `invalidInput` when the rows have no targets.
    public func batch(_ rows: some Collection<Int>) throws(AccrueError) -> Batch {
        guard let targets else { throw AccrueError(.invalidInput, while: "learning", "the rows have no targets") }
        let index = try Tensor(Array(rows))
        var parts: [Tensor] = []
        for tensor in raw { parts.append(try tensor.rows(index)) }
        return Batch(inputs: try design.prepared(parts), targets: try targets.rows(index))
    }
}

/// The rows of one step.
public struct Batch: Sendable {
    /// F32 [rows] + the network's input shape.
    public let inputs: Tensor
    /// [rows].
    public let targets: Tensor
}
