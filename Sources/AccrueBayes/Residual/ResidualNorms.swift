public import AccrueCore
public import AccrueTensor

/// Training-mode batch norms of residual networks, each with what follows it; on demand says what flowed into each.
///
/// A unit that is used at several steps of a network has one scale and shift, NAME.scale and NAME.shift, and at each step other statistics.
public struct ResidualNorms {
    private let weights: NamedTensors
    private let isRecording: Bool
    /// By the name of the statistics: count, mean and centred squares, a channel each.
    public private(set) var flows: [String: Moments] = [:]

    /// - Parameter recording: what flows in is wanted.
    public init(_ weights: NamedTensors, recording: Bool = false) {
        self.weights = weights
        isRecording = recording
    }

    /// Norm and ReLU of z [rows, channels, height, width].
    /// - Parameters:
    ///   - statistics: the name under which they are recorded.
    ///   - part: the channels of the norm that z has; nil: all.
    public mutating func relu(_ z: Tensor, _ name: String, statistics: String, part: Range<Int>? = nil) throws(AccrueError) -> Tensor {
        try record(z, statistics)
        return try z.batchNormalisedRelu(scale: try affine("\(name).scale", part), shift: try affine("\(name).shift", part))
    }

    /// max(0, x + Σ over units of share · norm): `z` [rows, units·channels, height, width], `shares` [rows, units].
    public mutating func mix(
        _ z: Tensor, _ name: String, statistics: String, part: Range<Int>? = nil, shares: Tensor, addedTo x: Tensor
    ) throws(AccrueError) -> Tensor {
        try record(z, statistics)
        return try z.batchNormalisedMix(scale: try affine("\(name).scale", part), shift: try affine("\(name).shift", part), shares: shares, addedTo: x)
    }

    private func affine(_ name: String, _ part: Range<Int>?) throws(AccrueError) -> Tensor {
        let all = try weights.tensor(name)
        guard let part else { return all }
        return try all.rows(part)
    }

    private mutating func record(_ z: Tensor, _ name: String) throws(AccrueError) {
        guard isRecording else { return }
        let (mean, centredSquares) = try z.channelMoments()
        flows[name] = Moments(count: Double(z.elementCount / mean.count), mean: mean, centredSquares: centredSquares)
    }
}
