public import AccrueCore
public import AccrueTensor

/// One draw from a posterior over a network's weights, or its only weights.
public struct NetworkMember: Sendable {
    public let weights: NamedTensors
    public let statistics: BatchStatistics
    public init(_ weights: NamedTensors, statistics: BatchStatistics = [:]) {
        self.weights = weights
        self.statistics = statistics
    }
}

/// A member in the form in which predictions use it.
public struct PreparedMember: Sendable {
    enum Form: Sendable {
        /// For the fused kernels, which pass through all draws at once.
        case packed(PackedNetwork)
        /// Layer after layer: networks with batch norms, and whatever else has no kernels.
        case plain(NetworkMember)
    }
    let form: Form
    /// What the likelihood says of the noise, target units squared.
    let noise: Double
    /// Of memory.
    let byteCount: Int

    /// - Throws: what the likelihood throws, or the engine.
    public init(_ member: NetworkMember, network: Network, likelihood: Likelihood) throws(AccrueError) {
        noise = try likelihood.noiseVariance(member.weights)
        if let stages = try network.stages(member.weights), let packed = try PackedNetwork(stages, inputShape: network.inputShape) {
            form = .packed(packed)
            byteCount = packed.byteCount
        } else {
            form = .plain(member)
            byteCount = 4 * member.weights.elementCount
        }
    }
}

extension Network {
    /// The layers as the kernels for predictions take them; nil where there are none for one of them.
    func stages(_ weights: NamedTensors) throws(AccrueError) -> [PackedNetwork.Stage]? {
        var stages: [PackedNetwork.Stage] = []
        var rest = layers[...]
        while let layer = rest.popFirst() {
            switch layer {
            case .affine(let affine):
                let weight = try weights.tensor(affine.weight), bias = try affine.bias(of: weights)
                switch affine.kind {
                case .convolution(_, let padding):
                    guard affine.isPooled(by: rest.prefix(2)) else { return nil }
                    rest = rest.dropFirst(2)
                    stages.append(.init(weight: weight, bias: bias, padding: padding, relu: true))
                case .dense:
                    let relu = rest.first == .relu
                    if relu { rest = rest.dropFirst() }
                    stages.append(.init(weight: weight, bias: bias, relu: relu))
                }
            // Inputs of dense layers are taken as they lie.
            case .flatten: continue
            case .batchNorm, .relu, .maxPool: return nil
            }
        }
        return stages
    }
}
