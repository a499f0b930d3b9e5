/// One layer of a network. Layers with weights have names, under which their tensors are kept.
public enum Layer: Equatable, Sendable {
    case affine(Affine)
    case batchNorm(BatchNorm)
    case relu
    case maxPool(size: Int, stride: Int)
    case flatten

    /// A layer that is linear in its weights: `NAME.weight`, `NAME.bias`.
    public struct Affine: Equatable, Sendable {
        public enum Kind: Equatable, Sendable {
            /// Weight [outputs, inputs].
            case dense
            /// Weight [outputs, inputs, kernel, kernel], stride 1.
            case convolution(kernel: Int, padding: Int)
        }
        public var name: String
        public var kind: Kind
        public var inputs: Int
        public var outputs: Int
        public var hasBias: Bool

        public init(_ name: String, _ kind: Kind, inputs: Int, outputs: Int, hasBias: Bool = true) {
            self.name = name
            self.kind = kind
            self.inputs = inputs
            self.outputs = outputs
            self.hasBias = hasBias
        }

        public var weight: String { "\(name).weight" }
        public var bias: String { "\(name).bias" }
        public var weightShape: [Int] {
            switch kind {
            case .dense: [outputs, inputs]
            case .convolution(let kernel, _): [outputs, inputs, kernel, kernel]
            }
        }
        /// Numbers that one output is computed from.
        public var fanIn: Int { weightShape.dropFirst().reduce(1, *) }
    }

    /// Batch normalisation over channels (or features): `NAME.scale`, `NAME.shift`; its statistics are no weights.
    public struct BatchNorm: Equatable, Sendable {
        public var name: String
        public var features: Int

        public init(name: String, features: Int) {
            self.name = name
            self.features = features
        }

        /// ε, added to variances.
        public static let epsilon = 1e-5

        public var scale: String { "\(name).scale" }
        public var shift: String { "\(name).shift" }
    }
}
