public import AccrueCore
public import AccrueTensor

/// A 3×3 convolution with the batch norm behind it in one, for given statistics: weight · slope, and a bias, where norm(y) = y · slope + bias.
public struct FoldedConvolution: Sendable {
    /// [outputs, inputs / groups, 3, 3].
    public let weight: Tensor
    /// [outputs].
    public let bias: Tensor

    /// - Parameters:
    ///   - norm: of the scale and shift.
    ///   - statistics: NAME.mean and NAME.variance.
    ///   - part: outputs that are wanted; nil: all. Statistics that have only as many are those of the part.
    public init(
        _ convolution: String, norm: String, _ weights: NamedTensors, _ statistics: NamedTensors, named name: String, part: Range<Int>? = nil
    ) throws(AccrueError) {
        func cut(_ tensor: Tensor) throws(AccrueError) -> Tensor {
            guard let part, tensor.rowCount != part.count else { return tensor }
            return try tensor.rows(part)
        }
        let mean = try cut(try statistics.tensor("\(name).mean")), variance = try cut(try statistics.tensor("\(name).variance"))
        let slope = try cut(try weights.tensor("\(norm).scale")) * (try (variance + Layer.BatchNorm.epsilon).reciprocalSquareRoot())
        weight = try cut(try weights.tensor(convolution)) * (try slope.reshaped([-1, 1, 1, 1]))
        bias = try cut(try weights.tensor("\(norm).shift")) - (try mean * slope)
    }

    private init(weight: Tensor, bias: Tensor) {
        self.weight = weight
        self.bias = bias
    }

    public func callAsFunction(_ x: Tensor, stride: Int = 1, groups: Int = 1) throws(AccrueError) -> Tensor {
        try x.convolved(weight, bias, stride: stride, padding: 1, groups: groups)
    }

    /// The outputs of some channels alone.
    public func rows(_ part: Range<Int>) throws(AccrueError) -> FoldedConvolution { FoldedConvolution(weight: try weight.rows(part), bias: try bias.rows(part)) }
}

/// A set of residual units at one step, with its statistics folded in: for predictions.
public struct FoldedUnits: Sendable {
    private let channels: Int
    private let all: (first: FoldedConvolution, second: FoldedConvolution)
    private let each: [(first: FoldedConvolution, second: FoldedConvolution)]

    /// - Parameter only: the one unit that the step uses, and whose statistics there are; nil: all.
    public init(_ units: ResidualUnits, step: Int, only: Int? = nil, _ weights: NamedTensors, _ statistics: NamedTensors) throws(AccrueError) {
        channels = units.channels
        let names = units.statistics(step: step), part = only.map { $0 * units.channels..<($0 + 1) * units.channels }
        func folded(_ index: Int) throws(AccrueError) -> FoldedConvolution {
            try FoldedConvolution("\(units.name).conv\(index).weight", norm: units.affine(index, step: step), weights, statistics, named: names[index - 1], part: part)
        }
        all = (try folded(1), try folded(2))
        var each: [(first: FoldedConvolution, second: FoldedConvolution)] = []
        for unit in 0..<(only == nil ? units.count : 1) {
            let part = unit * channels..<(unit + 1) * channels
            each.append((try all.first.rows(part), try all.second.rows(part)))
        }
        self.each = each
    }

    /// max(0, x + F(x)) of one unit (of its only one: 0).
    public func applied(_ unit: Int, to x: Tensor) throws(AccrueError) -> Tensor {
        try (x + (try each[unit].second(try each[unit].first(x).relu()))).relu()
    }

    /// max(0, x + Σ share · F(x)) with all units computed: `shares` [rows, units].
    public func mixed(_ x: Tensor, shares: Tensor) throws(AccrueError) -> Tensor {
        let units = each.count, shape = x.shape
        let z = try all.second(try all.first(x).relu(), groups: units).permuted([0, 2, 3, 1]).reshaped([shape[0], shape[2], shape[3], units, channels])
        let sum = try (z * (try shares.reshaped([shape[0], 1, 1, units, 1]))).sum(3).permuted([0, 3, 1, 2])
        return try (x + sum).relu()
    }
}

/// A downsampling block with its statistics folded in.
public struct FoldedDownsampling: Sendable {
    private let block: DownsamplingBlock
    private let first: FoldedConvolution
    private let second: FoldedConvolution

    public init(_ block: DownsamplingBlock, _ weights: NamedTensors, _ statistics: NamedTensors) throws(AccrueError) {
        self.block = block
        let name = block.name
        first = try FoldedConvolution("\(name).conv1.weight", norm: "\(name).norm1", weights, statistics, named: "\(name).norm1")
        second = try FoldedConvolution("\(name).conv2.weight", norm: "\(name).norm2", weights, statistics, named: "\(name).norm2")
    }

    public func callAsFunction(_ x: Tensor) throws(AccrueError) -> Tensor {
        try ((try block.shortcut(x)) + (try second(try first(x, stride: 2).relu()))).relu()
    }
}
