public import AccrueCore
import CTorch

/// How the losses of rows become one tensor.
public enum Reduction: Int32, Sendable {
    /// One loss a row.
    case none = 0
    case mean = 1
    case sum = 2
}

extension Tensor {
    /// Probabilities along a dimension from logits, and their logarithms (nats), without overflow.
    public func softmax(_ dim: Int) throws(AccrueError) -> Tensor { try Self.result("a softmax", [self], ct_softmax(handle, Int32(dim), false)) }
    public func logSoftmax(_ dim: Int) throws(AccrueError) -> Tensor { try Self.result("a log softmax", [self], ct_softmax(handle, Int32(dim), true)) }

    /// `self` [rows, in] times `weight` [out, in] transposed, plus `bias` [out].
    public func linear(_ weight: Tensor, _ bias: Tensor?) throws(AccrueError) -> Tensor {
        try Self.result("a dense layer", [self, weight], ct_linear(handle, weight.handle, bias?.handle))
    }

    /// `self` [rows, channels, height, width] with `weight` [out, channels / groups, k, k].
    /// - Parameter groups: of inputs and outputs, in equal parts, of which each output group reads its own input group alone.
    public func convolved(_ weight: Tensor, _ bias: Tensor?, stride: Int = 1, padding: Int = 0, groups: Int = 1) throws(AccrueError) -> Tensor {
        try Self.result("a convolution", [self, weight], ct_conv2d(handle, weight.handle, bias?.handle, Int64(stride), Int64(padding), Int64(groups)))
    }

    /// A convolution of stride 1, 2×2 max-pooling of stride 2 and a ReLU: [rows, channels, height, width] with `weight` [out, channels, k, k] gives
    /// [rows, out, (height + 2·padding − k + 1) / 2, …], rounded down. For F32 one pass over the product, much faster than the three by themselves.
    public func convolvedPooledRelu(_ weight: Tensor, _ bias: Tensor?, padding: Int = 0) throws(AccrueError) -> Tensor {
        try Self.result("a pooled convolution", [self, weight], ct_convolution_pool(handle, weight.handle, bias?.handle, Int64(padding), nil))
    }

    /// The same, with which position of each window won; nil where there are no kernels for it.
    public func convolvedPooledReluWithWinners(_ weight: Tensor, _ bias: Tensor?, padding: Int = 0) throws(AccrueError) -> (output: Tensor, winners: Tensor)? {
        var winners: ct_tensor?
        let output = try Self.result(
            "a pooled convolution", [self, weight], ct_convolution_pool(handle, weight.handle, bias?.handle, Int64(padding), &winners))
        return winners.map { (output, Tensor(owning: $0)) }
    }

    /// Sums over rows of each row's squared gradient by weight and bias of a pooled convolution with this input.
    /// - Parameters:
    ///   - winners: which positions won.
    ///   - slope: the gradient by the convolution's output.
    public func pooledSquares(winners: Tensor, slope: Tensor, kernel: Int, padding: Int) throws(AccrueError) -> (weight: Tensor, bias: Tensor) {
        var out: [ct_tensor?] = [nil, nil]
        let status = ct_pooled_squares(handle, winners.handle, slope.handle, Int64(kernel), Int64(padding), &out)
        let weight = try Self.result("squared gradients", [self, slope], status == 0 ? out[0] : nil)
        return (weight, try Self.result("squared gradients", [self, slope], out[1]))
    }

    /// The largest, or the mean, of each size × size window: [rows, channels, height, width] to
    /// [rows, channels, (height − size) / stride + 1, …], rounded down.
    public func maxPooled(_ size: Int, stride: Int) throws(AccrueError) -> Tensor {
        try Self.result("a max-pooling", [self], ct_max_pool2d(handle, Int64(size), Int64(stride)))
    }

    public func averagePooled(_ size: Int, stride: Int) throws(AccrueError) -> Tensor {
        try Self.result("an average pooling", [self], ct_average_pool2d(handle, Int64(size), Int64(stride)))
    }

    /// Patches: [rows, channels·k·k, positions].
    public func unfolded(_ size: Int, stride: Int = 1, padding: Int = 0) throws(AccrueError) -> Tensor {
        try Self.result("patches", [self], ct_unfold2d(handle, Int64(size), Int64(stride), Int64(padding)))
    }

    /// Normalised over all but dimension 1, with given statistics or, without them, those of this batch (variance with divisor count).
    /// `scale`, `shift` and statistics have shape [size of dimension 1]. Source: Ioffe & Szegedy 2015 (arXiv 1502.03167).
    public func batchNormalised(
        scale: Tensor, shift: Tensor, statistics: (mean: Tensor, variance: Tensor)? = nil, epsilon: Double = 1e-5
    ) throws(AccrueError) -> Tensor {
        try Self.result(
            "a batch normalisation", [self, scale],
            ct_batch_norm(handle, scale.handle, shift.handle, statistics?.mean.handle, statistics?.variance.handle, epsilon))
    }

    /// −log softmax of the target classes: `self` logits [rows, classes], targets [rows] I64. Nats.
    public func crossEntropy(_ targets: Tensor, _ reduction: Reduction = .mean) throws(AccrueError) -> Tensor {
        try Self.result("a cross-entropy", [self, targets], ct_cross_entropy(handle, targets.handle, reduction.rawValue))
    }

    /// −log probability of Bernoulli targets: `self` logits, targets in [0, 1] of the same shape. Nats.
    public func binaryCrossEntropy(_ targets: Tensor, _ reduction: Reduction = .mean) throws(AccrueError) -> Tensor {
        try Self.result("a binary cross-entropy", [self, targets], ct_binary_cross_entropy(handle, targets.handle, reduction.rawValue))
    }
}
