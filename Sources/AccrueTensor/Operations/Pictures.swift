public import AccrueCore
import CTorch

// Pictures are [rows, channels, height, width].
extension Tensor {
    /// The same values with a position's channels side by side in memory: where convolutions with few channels are fast. Results of operations on such
    /// pictures lie likewise.
    public func channelsLast() throws(AccrueError) -> Tensor { try Self.result("pictures with channels last", [self], ct_channels_last(handle)) }

    /// Normalised by its own statistics, and a ReLU: `scale` and `shift` [channels]. For F32 two passes over memory.
    public func batchNormalisedRelu(scale: Tensor, shift: Tensor, epsilon: Double = 1e-5) throws(AccrueError) -> Tensor {
        try Self.result("a batch normalisation with ReLU", [self, scale, shift], ct_norm_relu(handle, scale.handle, shift.handle, epsilon))
    }

    /// max(0, x + Σ over units of share · batch norm of the unit's channels): `self` [rows, units·channels, height, width] before the norm, unit after unit;
    /// `shares` [rows, units]; x [rows, channels, height, width].
    public func batchNormalisedMix(scale: Tensor, shift: Tensor, shares: Tensor, addedTo x: Tensor, epsilon: Double = 1e-5) throws(AccrueError) -> Tensor {
        try Self.result(
            "a mix of units", [self, scale, shift, shares, x], ct_norm_mix_relu(handle, scale.handle, shift.handle, shares.handle, x.handle, epsilon))
    }

    /// Of each channel the mean over rows and positions, and the sum of squared deviations from it, in Float64. No gradient is recorded.
    public func channelMoments() throws(AccrueError) -> (mean: [Double], centredSquares: [Double]) {
        let both = try Self.result("moments of channels", [self], ct_channel_moments(handle)).doubles()
        return (Array(both[..<(both.count / 2)]), Array(both[(both.count / 2)...]))
    }

    /// I420 frames, U8 [rows, 3/2·side²] (planes Y, Cb and Cr, the latter two of half the side), as U8 [rows, 3, side, side], red, green and blue.
    ///
    /// Source: JFIF 1.02, full range; rounded in whole numbers of 16 binary places.
    public func rgbOfI420(side: Int) throws(AccrueError) -> Tensor { try Self.result("colours", [self], ct_i420_rgb(handle, Int64(side))) }

    /// F32 pictures, each mirrored where said and then seen through a window of the same size that is moved: zeros come in from beyond its edges.
    /// - Parameter moves: one a row. No gradient is recorded.
    public func moved(_ moves: [PictureMove]) throws(AccrueError) -> Tensor {
        let numbers: [Int64] = moves.flatMap { (move: PictureMove) -> [Int64] in [Int64(move.down), Int64(move.right), move.mirrored ? 1 : 0] }
        return try Self.result("moved pictures", [self], ct_moved(handle, numbers, Int64(moves.count)))
    }
}

/// How one picture is moved.
public struct PictureMove: Equatable, Sendable {
    /// Positions that the window goes down and to the right.
    public var down: Int
    public var right: Int
    public var mirrored: Bool

    public init(down: Int, right: Int, mirrored: Bool) {
        self.down = down
        self.right = right
        self.mirrored = mirrored
    }
}
