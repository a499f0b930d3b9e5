public import AccrueCore
import CTorch
import Foundation

/// Mean and variance of a dense layer's weights [out, in] and bias [out], independent Gaussians: what networks have in common that draw the layer's outputs
/// instead of its weights.
public final class DenseMoments: Sendable {
    private struct Handle: @unchecked Sendable {
        // Written when the first network is packed, by one thread.
        let moments: ct_moments
    }
    private let stored: Handle
    var handle: ct_moments { stored.moments }

    /// - Throws: `engine` when shapes differ.
    public init(mean: Tensor, bias: Tensor?, variance: Tensor, biasVariance: Tensor?) throws(AccrueError) {
        guard let moments = ct_moments_make(mean.handle, bias?.handle, variance.handle, biasVariance?.handle) else {
            throw Tensor.failure("packing the moments of weights of shape \(mean.shape)")
        }
        stored = Handle(moments: moments)
    }

    deinit { ct_moments_free(handle) }
}

/// One draw of a network's weights in the order in which the fused kernels read them: for predictions alone, without gradients.
///
/// A row's outputs are the same bits whatever rows it comes with.
public final class PackedNetwork: Sendable {
    /// A dense layer, weight [out, in], or a convolution of stride 1, weight [out, channels, k, k], that 2×2 max-pooling and a ReLU follow.
    public struct Stage: Sendable {
        public var weight: Tensor
        public var bias: Tensor?
        public var padding: Int
        public var relu: Bool
        /// Of a dense layer whose outputs are drawn: m + noise · √v with noise [out], m and v of the moments (local reparameterisation, Kingma, Salimans &
        /// Welling 2015). Weight and bias are not used then.
        public var drawn: (moments: DenseMoments, noise: Tensor)?

        public init(weight: Tensor, bias: Tensor?, padding: Int = 0, relu: Bool, drawn: (moments: DenseMoments, noise: Tensor)? = nil) {
            self.weight = weight
            self.bias = bias
            self.padding = padding
            self.relu = relu
            self.drawn = drawn
        }
    }

    private struct Handle: @unchecked Sendable {
        // Never written after it is made.
        let packed: ct_packed
    }
    private let handle: Handle
    private let moments: [DenseMoments]

    /// nil where there are no kernels for these layers, or a weight is not finite.
    /// - Parameter inputShape: of one input, [features] or [channels, height, width].
    /// - Throws: `invalidInput` when layers do not fit each other; `engine` when there is no memory.
    public init?(_ stages: [Stage], inputShape: [Int]) throws(AccrueError) {
        let layers = stages.map {
            ct_layer(
                weight: $0.weight.handle, bias: $0.bias?.handle, padding: Int64($0.padding), relu: $0.relu, moments: $0.drawn?.moments.handle, noise: $0.drawn?.noise.handle)
        }
        var packed: ct_packed?
        let status = ct_pack(layers, Int32(layers.count), inputShape.map(Int64.init), Int32(inputShape.count), &packed)
        withExtendedLifetime(stages) {}
        guard status == 0 else { throw Tensor.failure("packing a network for inputs of shape \(inputShape)") }
        guard let packed else { return nil }
        handle = Handle(packed: packed)
        moments = stages.compactMap { $0.drawn?.moments }
    }

    deinit { ct_packed_free(handle.packed) }

    public var byteCount: Int { Int(ct_packed_bytes(handle.packed)) }
    public var outputs: Int { Int(ct_packed_outputs(handle.packed)) }

    /// Threads that are worth their start for rows through networks: one for what a processor does in less than about a millisecond.
    public static func threads(_ networks: [PackedNetwork], rows: Int) -> Int {
        let bytes = networks.reduce(0) { $0 + $1.byteCount } * max(1, rows / 4)
        let work = networks.reduce(0) { $0 + Int(ct_packed_work($1.handle.packed)) } * rows
        return max(1, min(ProcessInfo.processInfo.activeProcessorCount, networks.count, max(bytes / bytesOfThread, work / workOfThread)))
    }
    /// Of weights that are read.
    private static let bytesOfThread = 4 << 20
    /// Products.
    private static let workOfThread = 25_000_000

    /// Outputs [networks, rows, outputs] of networks of one shape, from inputs [rows] + the input shape.
    /// - Parameter threads: over which the networks are shared out; outputs are the same bits for any number.
    /// - Throws: `invalidInput` when the inputs do not fit.
    public static func outputs(_ networks: [PackedNetwork], _ inputs: Tensor, threads: Int = 1) throws(AccrueError) -> [Float] {
        guard let first = networks.first else { return [] }
        let count = networks.count * inputs.rowCount * first.outputs
        var status: Int32 = 0
        let values = [Float](unsafeUninitializedCapacity: count) { buffer, filled in
            guard let base = buffer.baseAddress else { return }
            status = ct_apply_packed(networks.map(\.handle.packed), Int32(networks.count), inputs.handle, Int32(clamping: max(1, threads)), base, Int64(count))
            filled = status == 0 ? count : 0
        }
        withExtendedLifetime(networks) {}
        guard status == 0 else {
            throw AccrueError(.invalidInput, while: "computing predictions of \(inputs.dtype.rawValue) \(inputs.shape)", String(cString: ct_error()), hint: "check the shapes")
        }
        return values
    }
}
