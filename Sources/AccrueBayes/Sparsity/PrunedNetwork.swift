public import AccrueCore
public import AccrueTensor
import Foundation

/// A network of which many weights are zero, as a smaller one that computes the same, and as lists of what is not zero.
///
/// A neuron or filter without a weight into it has a constant output, which goes into the next layer's biases; one without a weight out of it does nothing. Both are
/// taken out, again and again until none is left. Outputs are those of the network with its zeros, but for rounding. Of a first dense layer also the
/// inputs without weights go: `inputs` says which stay.
public struct PrunedNetwork: Sendable {
    public enum Form: String, CaseIterable, Sendable {
        /// Dense tensors of the smaller network.
        case compact
        /// Compressed sparse rows of the whole network.
        case csr
    }

    /// The smaller network and its weights.
    public let network: Network
    public let weights: NamedTensors
    /// Places of the features that go into a first dense layer; nil: all, as they are.
    public let inputs: [Int]?

    /// - Throws: `invalidInput` for networks with batch norms.
    public init(_ network: Network, _ weights: NamedTensors) throws(AccrueError) {
        guard network.batchNorms.isEmpty else {
            throw AccrueError(.invalidInput, while: "pruning a network", "it has batch norms, whose outputs are no constants", hint: "use a model without batch norm")
        }
        var stages = try Stage.all(network, weights)
        while stages.indices.dropFirst().contains(where: { Stage.shrink(&stages, at: $0) }) {}
        var inputs: [Int]?
        if case .dense? = stages.first?.layer.kind, !stages[0].isShared {
            let kept = stages[0].inputsWithWeights
            inputs = kept.isEmpty ? [0] : kept
            stages[0].keepInputs(inputs ?? [])
        }
        self.inputs = inputs
        var list: [(String, Tensor)] = [], byName: [String: Layer.Affine] = [:]
        for stage in stages {
            let layer = stage.result
            byName[layer.name] = layer
            list.append((layer.weight, try Tensor(stage.weight, shape: layer.weightShape)))
            if layer.hasBias { list.append((layer.bias, try Tensor(stage.bias.map(Float.init), shape: [layer.outputs]))) }
        }
        self.weights = NamedTensors(list)
        let layers = network.layers.map { layer -> Layer in if case .affine(let affine) = layer { .affine(byName[affine.name] ?? affine) } else { layer } }
        self.network = Network(layers: layers, inputShape: inputs.map { [$0.count] } ?? network.inputShape)
    }

    /// Outputs [rows, outputs] of inputs as the whole network takes them.
    public func outputs(_ rows: Tensor) throws(AccrueError) -> Tensor {
        var x = rows
        if let inputs { x = try x.transposed().rows(try Tensor(inputs)).transposed() }
        var pass = PlainPass(weights)
        return try network.apply(x, &pass)
    }

    /// Tensors for a file, and a header that says what they are: `form`, `layers` in order, `denseBytes` (of the whole network) and `bytes` (of these tensors).
    ///
    /// `compact`: `NAME.weight`, `NAME.bias`, and `inputs` (I64) where features were left out. `csr`: `NAME.values` (F32), `NAME.columns` (I32), `NAME.rows` (I32,
    /// where each output's values begin, and the end), `NAME.bias`; a weight's columns are its inputs, channel by channel and kernel row by kernel row.
    public static func export(_ network: Network, _ weights: NamedTensors, form: Form) throws(AccrueError) -> (tensors: [String: TensorBytes], header: [String: JSONValue]) {
        var tensors: [String: TensorBytes] = [:]
        var whole = network
        switch form {
        case .compact:
            let pruned = try PrunedNetwork(network, weights)
            tensors = try pruned.weights.stored()
            if let inputs = pruned.inputs { tensors["inputs"] = TensorBytes(inputs.map(Int64.init), shape: [inputs.count]) }
            whole = pruned.network
        case .csr:
            for layer in network.affineLayers {
                for (name, tensor) in CompressedRows(try weights.tensor(layer.weight).floats(), width: layer.fanIn).tensors { tensors["\(layer.name).\(name)"] = tensor }
                if layer.hasBias { tensors[layer.bias] = try weights.tensor(layer.bias).bytes() }
            }
        }
        let dense = 4 * network.affineLayers.reduce(0) { $0 + $1.outputs * $1.fanIn + ($1.hasBias ? $1.outputs : 0) }
        return (
            tensors,
            [
                "form": .string(form.rawValue), "layers": .array(whole.layers.map(\.declared)), "inputShape": .array(whole.inputShape.map { .integer($0) }),
                "denseBytes": .integer(dense), "bytes": .integer(tensors.values.reduce(0) { $0 + $1.data.count }),
            ]
        )
    }
}

/// The elements of a matrix that are not zero, row by row.
public struct CompressedRows: Equatable, Sendable {
    public private(set) var values: [Float] = []
    public private(set) var columns: [Int32] = []
    /// Where each row begins among the values, and the end.
    public private(set) var rows: [Int32] = [0]

    public init(_ matrix: [Float], width: Int) {
        for (index, value) in matrix.enumerated() {
            if value != 0 {
                values.append(value)
                columns.append(Int32(index % width))
            }
            if index % width == width - 1 { rows.append(Int32(values.count)) }
        }
    }

    /// The matrix times a vector, summed in Float64.
    public func times(_ vector: [Float]) -> [Float] {
        (0..<rows.count - 1).map { row in Float((Int(rows[row])..<Int(rows[row + 1])).reduce(0.0) { $0 + Double(values[$1]) * Double(vector[Int(columns[$1])]) }) }
    }

    var tensors: [String: TensorBytes] {
        func whole(_ numbers: [Int32]) -> TensorBytes { TensorBytes(dtype: .i32, shape: [numbers.count], data: numbers.withUnsafeBytes { Data($0) }) }
        return ["values": TensorBytes(values, shape: [values.count]), "columns": whole(columns), "rows": whole(rows)]
    }
}

/// An affine layer while its network shrinks. Inputs are the outputs of the layer before, each with `positions` numbers a weight row.
private struct Stage {
    var layer: Layer.Affine
    var outputs: Int
    var inputs: Int
    var positions: Int
    var weight: [Float]
    var bias: [Double]
    var hasBias: Bool
    /// Whether a ReLU follows.
    var hasReLU: Bool
    /// Whether inputs are channels, whose numbers go together.
    var isShared: Bool { positions > 1 }

    static func all(_ network: Network, _ weights: NamedTensors) throws(AccrueError) -> [Stage] {
        var stages: [Stage] = []
        for (index, layer) in network.layers.enumerated() {
            guard case .affine(let affine) = layer else { continue }
            let inputs = stages.last?.outputs ?? affine.inputs
            let bias = affine.hasBias ? try weights.tensor(affine.bias).doubles() : [Double](repeating: 0, count: affine.outputs)
            stages.append(
                Stage(
                    layer: affine, outputs: affine.outputs, inputs: inputs, positions: affine.fanIn / inputs, weight: try weights.tensor(affine.weight).floats(), bias: bias,
                    hasBias: affine.hasBias, hasReLU: network.layers.dropFirst(index + 1).first == .relu))
        }
        return stages
    }

    private func has(output: Int, input: Int) -> Bool {
        let start = (output * inputs + input) * positions
        return weight[start..<start + positions].contains { $0 != 0 }
    }

    var inputsWithWeights: [Int] { (0..<inputs).filter { input in (0..<outputs).contains { has(output: $0, input: input) } } }
    private var outputsWithWeights: [Int] { (0..<outputs).filter { output in (0..<inputs).contains { has(output: output, input: $0) } } }

    mutating func keepInputs(_ kept: [Int]) {
        var smaller: [Float] = []
        smaller.reserveCapacity(outputs * kept.count * positions)
        for output in 0..<outputs { for input in kept { smaller += weight[(output * inputs + input) * positions..<(output * inputs + input + 1) * positions] } }
        (weight, inputs) = (smaller, kept.count)
    }

    private mutating func keepOutputs(_ kept: [Int]) {
        let width = inputs * positions
        weight = kept.flatMap { weight[$0 * width..<($0 + 1) * width] }
        bias = kept.map { bias[$0] }
        outputs = kept.count
    }

    /// Takes out what lies between a stage and the one before it; at least one output stays.
    /// - Returns: whether anything went.
    static func shrink(_ stages: inout [Stage], at index: Int) -> Bool {
        let into = Set(stages[index - 1].outputsWithWeights), out = Set(stages[index].inputsWithWeights)
        var isPadded = false
        if case .convolution(_, let padding) = stages[index].layer.kind { isPadded = padding > 0 }
        var kept: [Int] = []
        for unit in 0..<stages[index - 1].outputs {
            guard out.contains(unit) else { continue }
            let bias = stages[index - 1].bias[unit], constant = stages[index - 1].hasReLU ? max(0, bias) : bias
            // At the edges of a padded convolution a constant is not constant.
            if into.contains(unit) || (isPadded && constant != 0) {
                kept.append(unit)
            } else if constant != 0 {
                stages[index].absorb(constant, from: unit)
            }
        }
        if kept.isEmpty {
            // A layer needs one unit; what it says is in the biases already.
            kept = [0]
            stages[index].forget(0)
        }
        guard kept.count < stages[index - 1].outputs else { return false }
        stages[index].keepInputs(kept)
        stages[index - 1].keepOutputs(kept)
        return true
    }

    private mutating func absorb(_ constant: Double, from input: Int) {
        for output in 0..<outputs {
            let start = (output * inputs + input) * positions
            let sum = weight[start..<start + positions].reduce(0.0) { $0 + Double($1) }
            if sum != 0 { hasBias = true }
            bias[output] += constant * sum
        }
    }

    private mutating func forget(_ input: Int) {
        for output in 0..<outputs { for place in 0..<positions { weight[(output * inputs + input) * positions + place] = 0 } }
    }

    var result: Layer.Affine {
        var result = layer
        result.outputs = outputs
        if case .dense = layer.kind { result.inputs = inputs * positions } else { result.inputs = inputs }
        result.hasBias = hasBias
        return result
    }
}

extension Layer {
    /// For whoever builds the network again: `kind` and its numbers.
    fileprivate var declared: JSONValue {
        switch self {
        case .affine(let layer):
            var fields: [String: JSONValue] = ["name": .string(layer.name), "inputs": .integer(layer.inputs), "outputs": .integer(layer.outputs), "bias": .bool(layer.hasBias)]
            switch layer.kind {
            case .dense: fields["kind"] = "dense"
            case .convolution(let kernel, let padding): fields.merge(["kind": "convolution", "kernel": .integer(kernel), "padding": .integer(padding)]) { $1 }
            }
            return .object(fields)
        case .batchNorm(let norm): return .object(["kind": "batchNorm", "name": .string(norm.name)])
        case .relu: return .object(["kind": "relu"])
        case .maxPool(let size, let stride): return .object(["kind": "maxPool", "size": .integer(size), "stride": .integer(stride)])
        case .flatten: return .object(["kind": "flatten"])
        }
    }
}
