public import AccrueCore
public import AccrueTensor

/// One draw from a posterior over a network's weights, or its only weights.
public struct NetworkMember: Sendable {
    public let weights: NamedTensors
    public let statistics: BatchStatistics
    let pass: (@Sendable () -> any NetworkPass)?
    let function: (@Sendable (Tensor) throws(AccrueError) -> Tensor)?
    let drawnOutputs: DrawnLayers

    /// Noise of outputs that may be drawn in place of a dense layer's weights, by the weight's name.
    public typealias DrawnLayers = [String: (moments: DenseMoments, noise: Tensor)]

    /// A network that is no list of layers.
    /// - Parameter function: outputs [rows, outputs] from inputs [rows] + the input shape.
    public init(_ weights: NamedTensors, function: @escaping @Sendable (Tensor) throws(AccrueError) -> Tensor) {
        self.weights = weights
        statistics = [:]
        pass = nil
        self.function = function
        drawnOutputs = [:]
    }

    /// - Parameters:
    ///   - pass: how the network is applied, where weights and statistics do not say it all; the same for all rows, each by itself.
    ///   - drawnOutputs: a draw of dense layers' outputs whose distribution for each row is that of the weights' draws; for answers about few rows.
    public init(
        _ weights: NamedTensors, statistics: BatchStatistics = [:], pass: (@Sendable () -> any NetworkPass)? = nil, drawnOutputs: DrawnLayers = [:]
    ) {
        self.weights = weights
        self.statistics = statistics
        self.pass = pass
        function = nil
        self.drawnOutputs = drawnOutputs
    }
}

extension Network {
    /// What a member says of inputs [rows] + `inputShape`: outputs [rows, outputs].
    public func outputs(_ inputs: Tensor, _ member: NetworkMember) throws(AccrueError) -> Tensor {
        func through(_ pass: some NetworkPass) throws(AccrueError) -> Tensor {
            var pass = pass
            return try apply(inputs, &pass)
        }
        if let function = member.function { return try function(inputs) }
        if let pass = member.pass { return try through(pass()) }
        return try through(PlainPass(member.weights, statistics: member.statistics))
    }
}

/// A member in the form in which predictions use it.
public struct PreparedMember: Sendable {
    enum Form: Sendable {
        /// For the fused kernels, which pass through all draws at once.
        case packed(PackedNetwork)
        /// Layer after layer: whatever has no kernels.
        case plain(NetworkMember)
    }
    let form: Form
    /// As `form`, with the outputs of large dense layers drawn in place of their weights: for few rows, which would wait for the weights to be read.
    let fewRowsForm: PackedNetwork?
    /// What the likelihood says of the noise, target units squared.
    let noise: Double
    /// Of memory.
    let byteCount: Int

    /// - Throws: what the likelihood throws, or the engine.
    public init(_ member: NetworkMember, network: Network, likelihood: Likelihood) throws(AccrueError) {
        noise = try likelihood.noiseVariance(member.weights)
        if member.pass == nil, member.function == nil, let stages = try network.stages(member.weights, statistics: member.statistics), let packed = try PackedNetwork(stages, inputShape: network.inputShape) {
            form = .packed(packed)
            let drawing = member.drawnOutputs.isEmpty ? nil : try network.stages(member.weights, statistics: member.statistics, drawnOutputs: member.drawnOutputs)
            fewRowsForm = try drawing.flatMap { (stages) throws(AccrueError) in try PackedNetwork(stages, inputShape: network.inputShape) }
            byteCount = packed.byteCount + (fewRowsForm?.byteCount ?? 0)
        } else {
            form = .plain(member)
            fewRowsForm = nil
            byteCount = 4 * member.weights.elementCount
        }
    }
}

extension Network {
    /// The layers as the kernels for predictions take them, a batch norm with given statistics as part of the layer before it; nil where there are none for
    /// one of them.
    func stages(
        _ weights: NamedTensors, statistics: BatchStatistics = [:], drawnOutputs: NetworkMember.DrawnLayers = [:]
    ) throws(AccrueError) -> [PackedNetwork.Stage]? {
        var stages: [PackedNetwork.Stage] = []
        var rest = layers[...]
        while let layer = rest.popFirst() {
            switch layer {
            case .affine(let affine):
                var weight = try weights.tensor(affine.weight), bias = try affine.bias(of: weights), drawn = drawnOutputs[affine.weight]
                if case .batchNorm(let norm)? = rest.first {
                    guard let given = statistics[norm.name] else { return nil }
                    (weight, bias) = try norm.folded(into: weight, bias, weights: weights, statistics: given)
                    rest = rest.dropFirst()
                    drawn = nil
                }
                switch affine.kind {
                case .convolution(_, let padding):
                    guard affine.isPooled(by: rest.prefix(2)) else { return nil }
                    rest = rest.dropFirst(2)
                    stages.append(.init(weight: weight, bias: bias, padding: padding, relu: true))
                case .dense:
                    let relu = rest.first == .relu
                    if relu { rest = rest.dropFirst() }
                    stages.append(.init(weight: weight, bias: bias, relu: relu, drawn: drawn))
                }
            // Inputs of dense layers are taken as they lie.
            case .flatten: continue
            case .batchNorm, .relu, .maxPool: return nil
            }
        }
        return stages
    }
}

extension Layer.BatchNorm {
    /// The weight and bias of the layer before this one with which it does both: rows a = scale / √(variance + ε) times theirs, and shift + a (bias − mean).
    func folded(
        into weight: Tensor, _ bias: Tensor?, weights: NamedTensors, statistics: (mean: Tensor, variance: Tensor)
    ) throws(AccrueError) -> (weight: Tensor, bias: Tensor) {
        let a = try (try weights.tensor(scale)) * (try (statistics.variance + Self.epsilon).reciprocalSquareRoot())
        let centred = if let bias { try bias - statistics.mean } else { try statistics.mean.negated() }
        let rows = try a.reshaped([-1] + [Int](repeating: 1, count: weight.shape.count - 1))
        return (try weight * rows, try (centred * a) + (try weights.tensor(shift)))
    }
}
