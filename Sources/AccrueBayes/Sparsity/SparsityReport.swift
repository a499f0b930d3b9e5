public import AccrueCore
public import AccrueTensor

/// How many weights of a network are kept, layer by layer, and how log α lies.
public struct SparsityReport: Equatable, Sendable {
    public struct Layer: Equatable, Sendable {
        public var name: String
        /// Biases are not counted.
        public var weights: Int
        public var kept: Int
        /// Neurons or filters, and those into which a kept weight leads.
        public var outputs: Int
        public var outputsKept: Int
        /// Numbers or channels that go in, and those out of which a kept weight leads.
        public var inputs: Int
        public var inputsKept: Int
        /// Weights by log α, in `binCount` equal bins over `binRange`; those beyond are in the first and the last.
        public var logAlpha: [Int]
    }

    public static let binRange = -12.0...12.0
    public static let binCount = 24

    public let threshold: Double
    public let layers: [Layer]

    public var weights: Int { layers.reduce(0) { $0 + $1.weights } }
    public var kept: Int { layers.reduce(0) { $0 + $1.kept } }
    /// Weights a kept weight.
    public var compression: Double { Double(weights) / Double(max(1, kept)) }

    /// - Parameter logAlpha: of each layer's weight, by its name; kept are those below the threshold.
    public init(_ network: Network, logAlpha: NamedTensors, threshold: Double) throws(AccrueError) {
        self.threshold = threshold
        var layers: [Layer] = []
        for layer in network.affineLayers {
            let values = try logAlpha.tensor(layer.weight).doubles(), positions = max(1, layer.fanIn / layer.inputs)
            var bins = [Int](repeating: 0, count: Self.binCount), kept = 0
            var outputs = [Bool](repeating: false, count: layer.outputs), inputs = [Bool](repeating: false, count: layer.inputs)
            let width = (Self.binRange.upperBound - Self.binRange.lowerBound) / Double(Self.binCount)
            for (index, value) in values.enumerated() {
                bins[min(Self.binCount - 1, max(0, Int(((value - Self.binRange.lowerBound) / width).rounded(.down))))] += 1
                guard value < threshold else { continue }
                kept += 1
                outputs[index / layer.fanIn] = true
                inputs[index % layer.fanIn / positions] = true
            }
            layers.append(
                Layer(
                    name: layer.name, weights: values.count, kept: kept, outputs: layer.outputs, outputsKept: outputs.count(where: \.self), inputs: layer.inputs,
                    inputsKept: inputs.count(where: \.self), logAlpha: bins))
        }
        self.layers = layers
    }

    /// What `describe` says: `threshold`, `weights`, `kept`, `compression`.
    public var summary: [String: JSONValue] {
        ["threshold": .number(threshold), "weights": .integer(weights), "kept": .integer(kept), "compression": .number(compression)]
    }

    /// What `sparsity` answers: the summary and `layers`.
    public var header: JSONValue {
        let bins: JSONValue = .object(["from": .number(Self.binRange.lowerBound), "to": .number(Self.binRange.upperBound)])
        let list = layers.map { layer -> JSONValue in
            .object([
                "name": .string(layer.name), "weights": .integer(layer.weights), "kept": .integer(layer.kept), "outputs": .integer(layer.outputs),
                "outputsKept": .integer(layer.outputsKept), "inputs": .integer(layer.inputs), "inputsKept": .integer(layer.inputsKept),
                "logAlpha": .array(layer.logAlpha.map { .integer($0) }),
            ])
        }
        return .object(summary.merging(["layers": .array(list), "logAlphaBins": bins]) { $1 })
    }
}
