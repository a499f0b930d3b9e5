public import AccrueCore
public import AccrueTensor

/// The gradients of a sum over rows, row by row, by one tensor of weights.
public enum RowGradient: Sendable {
    /// Of a dense layer's weight: row n's is the outer product of `slope` [rows, outputs] and `input` [rows, inputs], never written out.
    case outer(slope: Tensor, input: Tensor)
    /// Written out: [rows] + the weight's shape.
    case each(Tensor)

    /// [rows, elements].
    public func rows() throws(AccrueError) -> Tensor {
        switch self {
        case .outer(let slope, let input):
            let rows = slope.rowCount
            return try (try slope.reshaped([rows, -1, 1]) * (try input.reshaped([rows, 1, -1]))).reshaped([rows, -1])
        case .each(let tensor): return try tensor.reshaped([tensor.rowCount, -1])
        }
    }

    /// Inner products of the rows' gradients, [rows, rows].
    public func products() throws(AccrueError) -> Tensor {
        switch self {
        case .outer(let slope, let input): return try slope.matmul(try slope.transposed()) * (try input.matmul(try input.transposed()))
        case .each:
            let rows = try rows()
            return try rows.matmul(try rows.transposed())
        }
    }

    /// Σ over rows of squares, of the weight's elements in one line.
    public func squares() throws(AccrueError) -> Tensor {
        switch self {
        case .outer(let slope, let input): return try (try slope.squared().transposed().matmul(try input.squared())).reshaped([-1])
        case .each: return try rows().squared().sum(0)
        }
    }

    /// Sums over rows with weights [combinations, rows]: [combinations, elements].
    public func combined(_ weights: Tensor) throws(AccrueError) -> Tensor {
        switch self {
        case .outer(let slope, let input):
            let combinations = weights.rowCount, rows = slope.rowCount
            let scaled = try (try slope.transposed().reshaped([1, -1, rows]) * (try weights.reshaped([combinations, 1, rows]))).reshaped([-1, rows])
            return try scaled.matmul(input).reshaped([combinations, -1])
        case .each: return try weights.matmul(try rows())
        }
    }
}

extension Network {
    /// Row-by-row gradients of a sum over rows by every weight of the network, by the weight's name.
    ///
    /// - Parameter function: the sum, from outputs [rows, outputs]; rows must not depend on each other.
    /// - Throws: `invalidInput` for networks with batch norms.
    public func rowGradients(
        _ weights: NamedTensors, inputs: Tensor, of function: (Tensor) throws(AccrueError) -> Tensor
    ) throws(AccrueError) -> [String: RowGradient] {
        let (gradients, seen) = try tapped(weights, inputs: inputs, keepsPositions: true, function)
        var result: [String: RowGradient] = [:]
        for layer in affineLayers {
            guard let input = seen.inputs[layer.name] else { continue }
            let slope = try gradients.tensor(layer.name)
            switch layer.kind {
            case .dense:
                result[layer.weight] = .outer(slope: slope, input: input)
                if layer.hasBias { result[layer.bias] = .each(slope) }
            case .convolution(let kernel, let padding):
                let each = try layer.eachGradient(slope, input, kernel: kernel, padding: padding)
                result[layer.weight] = .each(each.weight)
                if layer.hasBias { result[layer.bias] = .each(each.bias) }
            }
        }
        return result
    }

    /// One forward and backward pass over all rows: each row's gradient by every layer's own output, and what the pass saw.
    func tapped(
        _ weights: NamedTensors, inputs: Tensor, statistics: BatchStatistics = [:], keepsPositions: Bool = false, _ function: (Tensor) throws(AccrueError) -> Tensor
    ) throws(AccrueError) -> (slopes: NamedTensors, seen: TappedPass) {
        var probe = TappedPass(weights, taps: NamedTensors(), statistics: statistics, keepsPositions: keepsPositions)
        _ = try apply(try inputs.rows(0..<1), &probe)
        var zeros: [(String, Tensor)] = []
        for (name, shape) in probe.outputShapes { zeros.append((name, try .zeros([inputs.rowCount] + shape.dropFirst()))) }
        let (_, slopes, seen) = try valueAndGradient(at: NamedTensors(zeros)) { (taps) throws(AccrueError) -> (Tensor, TappedPass) in
            var pass = TappedPass(weights, taps: taps, statistics: statistics, keepsPositions: keepsPositions)
            return (try function(try apply(inputs, &pass)), pass)
        }
        return (slopes, seen)
    }
}

extension Layer.Affine {
    /// Of a convolution, each row's gradient by its weight, [rows] + the weight's shape, and by its bias, [rows, outputs].
    func eachGradient(_ slope: Tensor, _ input: Tensor, kernel: Int, padding: Int) throws(AccrueError) -> (weight: Tensor, bias: Tensor) {
        let flat = try slope.reshaped([slope.rowCount, outputs, -1])
        let each = try flat.matmul(try input.unfolded(kernel, padding: padding).transposed())
        return (try each.reshaped([slope.rowCount] + weightShape), try flat.sum(2))
    }
}
