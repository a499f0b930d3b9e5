public import AccrueCore
public import AccrueTensor

/// A set of residual units of one shape, side by side in memory: unit m is F(x) = norm(conv(relu(norm(conv(x))))), 3×3 convolutions without biases, and its
/// output has its input's shape. A chain of such units is a stage of a ResNet.
///
/// Weights: NAME.conv1.weight and NAME.conv2.weight [units·channels, channels, 3, 3], NAME.norm1 and NAME.norm2, `.scale` and `.shift` [units·channels]: unit
/// after unit; where each step has its own scales and shifts, NAME.norm1.stepT and NAME.norm2.stepT. Statistics are of a unit at a step, since a unit meets another
/// input at each. Source: He et al. 2016 (arXiv 1512.03385).
public struct ResidualUnits: Equatable, Sendable {
    public let name: String
    public let count: Int
    public let channels: Int
    /// How many steps have scales and shifts of their own; nil: a unit has one for all of them.
    public let ownSteps: Int?

    public init(_ name: String, count: Int, channels: Int, ownSteps: Int? = nil) {
        self.name = name
        self.count = count
        self.channels = channels
        self.ownSteps = ownSteps
    }

    /// First weights: convolutions N(0, 2/(9·channels)), norms 1 and 0, but the last norm's scale, `lastScale`.
    public func initialWeights(lastScale: Double, key: RandomKey) throws(AccrueError) -> [(String, Tensor)] {
        let width = count * channels
        func layer(_ index: Int, scale: Double) throws(AccrueError) -> [(String, Tensor)] {
            let norms = (0..<(ownSteps ?? 1)).map { affine(index, step: $0) }
            return try firstLayer("\(name).conv\(index).weight", norms: norms, inputs: channels, outputs: width, scale: scale, key: key)
        }
        return try layer(1, scale: 1) + layer(2, scale: lastScale)
    }

    /// The name of the scale and shift of a step's norm, 1 or 2.
    func affine(_ index: Int, step: Int) -> String { ownSteps == nil ? "\(name).norm\(index)" : "\(name).norm\(index).step\(step + 1)" }

    /// Names of the statistics of a step.
    public func statistics(step: Int) -> [String] { [1, 2].map { "\(name).norm\($0).step\(step + 1)" } }

    /// One training step of the set: max(0, x + Σ share · F(x)).
    /// - Parameters:
    ///   - x: [rows, channels, height, width].
    ///   - shares: [rows, units].
    public func mixed(_ x: Tensor, shares: Tensor, step: Int, _ weights: NamedTensors, _ norms: inout ResidualNorms) throws(AccrueError) -> Tensor {
        let statistics = statistics(step: step)
        // All units read the same input: their first convolutions are one.
        let first = try norms.relu(try x.convolved(try weights.tensor("\(name).conv1.weight"), nil, padding: 1), affine(1, step: step), statistics: statistics[0])
        let second = try first.convolved(try weights.tensor("\(name).conv2.weight"), nil, padding: 1, groups: count)
        return try norms.mix(second, affine(2, step: step), statistics: statistics[1], shares: shares, addedTo: x)
    }

    /// One training step with one unit for all rows: max(0, x + F(x)).
    public func applied(_ unit: Int, to x: Tensor, step: Int, _ weights: NamedTensors, _ norms: inout ResidualNorms) throws(AccrueError) -> Tensor {
        let part = unit * channels..<(unit + 1) * channels, statistics = statistics(step: step)
        let first = try norms.relu(
            try x.convolved(try weights.tensor("\(name).conv1.weight").rows(part), nil, padding: 1), affine(1, step: step), statistics: statistics[0], part: part)
        let second = try first.convolved(try weights.tensor("\(name).conv2.weight").rows(part), nil, padding: 1)
        return try norms.mix(
            second, affine(2, step: step), statistics: statistics[1], part: part, shares: try .ones([x.rowCount, 1], dtype: x.dtype), addedTo: x)
    }

    /// Multiply-adds of one unit on one picture with this many positions.
    public func multiplyAdds(positions: Int) -> Int { 2 * 9 * channels * channels * positions }
}

/// The first block of a stage, which halves height and width: max(0, pad(subsample x) + F(x)) with stride 2 in F's first convolution; the shortcut has no
/// parameters: every second position, and zeros for new channels (He et al. 2016, option A).
public struct DownsamplingBlock: Equatable, Sendable {
    public let name: String
    public let inputs: Int
    public let outputs: Int

    public init(_ name: String, inputs: Int, outputs: Int) {
        self.name = name
        self.inputs = inputs
        self.outputs = outputs
    }

    public func initialWeights(key: RandomKey) throws(AccrueError) -> [(String, Tensor)] {
        func layer(_ index: Int, _ inputs: Int) throws(AccrueError) -> [(String, Tensor)] {
            try firstLayer("\(name).conv\(index).weight", norms: ["\(name).norm\(index)"], inputs: inputs, outputs: outputs, scale: 1, key: key)
        }
        return try layer(1, inputs) + layer(2, outputs)
    }

    public func callAsFunction(_ x: Tensor, _ weights: NamedTensors, _ norms: inout ResidualNorms) throws(AccrueError) -> Tensor {
        let first = try norms.relu(
            try x.convolved(try weights.tensor("\(name).conv1.weight"), nil, stride: 2, padding: 1), "\(name).norm1", statistics: "\(name).norm1")
        let second = try first.convolved(try weights.tensor("\(name).conv2.weight"), nil, padding: 1)
        return try norms.mix(
            second, "\(name).norm2", statistics: "\(name).norm2", shares: try .ones([x.rowCount, 1], dtype: x.dtype), addedTo: try shortcut(x))
    }

    /// Every second position, with zeros for channels that are new.
    func shortcut(_ x: Tensor) throws(AccrueError) -> Tensor {
        let kept = try x.averagePooled(1, stride: 2)
        guard outputs > inputs else { return kept }
        return try .concatenated([kept, try .zeros([kept.rowCount, outputs - inputs] + kept.shape.suffix(2), dtype: x.dtype)], dim: 1)
    }

    /// Multiply-adds on one picture with this many positions behind the block.
    public func multiplyAdds(positions: Int) -> Int { 9 * (inputs + outputs) * outputs * positions }
}

/// First weights of a convolution, N(0, 2/(9·inputs)), and of the norms behind it: a scale and no shift.
private func firstLayer(
    _ convolution: String, norms: [String], inputs: Int, outputs: Int, scale: Double, key: RandomKey
) throws(AccrueError) -> [(String, Tensor)] {
    var list = [(convolution, try key.folding(convolution).normal([outputs, inputs, 3, 3]) * (2 / Double(9 * inputs)).squareRoot())]
    for norm in norms { list += [("\(norm).scale", try .full([outputs], scale)), ("\(norm).shift", try .zeros([outputs]))] }
    return list
}
