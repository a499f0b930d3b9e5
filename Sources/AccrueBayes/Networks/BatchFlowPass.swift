public import AccrueCore
public import AccrueTensor

/// Training-mode pass over one batch that says what flowed into each batch norm: count, mean and centred squares of its values, a channel each, in Float64.
public struct BatchFlowPass: NetworkPass {
    private let weights: NamedTensors
    /// By batch norm.
    public private(set) var flows: [String: Moments] = [:]

    public init(_ weights: NamedTensors) { self.weights = weights }

    public func affine(_ layer: Layer.Affine, _ x: Tensor) throws(AccrueError) -> Tensor {
        try layer(x, try weights.tensor(layer.weight), try layer.bias(of: weights))
    }

    public mutating func batchNorm(_ layer: Layer.BatchNorm, _ x: Tensor) throws(AccrueError) -> Tensor {
        // In two passes: a mean of squares less a squared mean would lose what it is about.
        let wide = try x.cast(to: .f64)
        let isImage = x.shape.count == 4
        let mean = isImage ? try wide.mean(0, 2, 3, keepDims: true) : try wide.mean(0, keepDims: true)
        let deviations = try (wide - mean).squared()
        let squares = isImage ? try deviations.sum(0, 2, 3) : try deviations.sum(0)
        let count = Double(x.elementCount / layer.features)
        flows[layer.name] = Moments(count: count, mean: try mean.doubles(), centredSquares: try squares.doubles())
        return try x.batchNormalised(scale: try weights.tensor(layer.scale), shift: try weights.tensor(layer.shift))
    }
}
