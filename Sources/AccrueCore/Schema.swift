/// What the rows of a pipeline look like: the tensors of a chunk, in order. The order is part of a chunk's identity.
public struct Schema: Codable, Equatable, Sendable {
    public var tensors: [TensorSchema]

    public init(_ tensors: [TensorSchema]) { self.tensors = tensors }

    public init(from decoder: any Decoder) throws { tensors = try decoder.singleValueContainer().decode([TensorSchema].self) }
    public func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(tensors)
    }

    public func tensors(_ role: TensorSchema.Role) -> [TensorSchema] { tensors.filter { $0.role == role } }
    public subscript(name: String) -> TensorSchema? { tensors.first { $0.name == name } }
}

/// One tensor of a schema.
public struct TensorSchema: Codable, Equatable, Sendable {
    public enum Role: String, Codable, Sendable { case input, target, mask }
    public enum MissingRule: String, Codable, Sendable {
        /// NaN and infinity are refused (the default).
        case refuse
        /// NaN means "not observed" and is allowed; infinity is refused.
        case nan
    }
    /// A fixed affine transform: `(value * scale - mean) / standardDeviation`; declared, never estimated.
    public struct Transform: Codable, Equatable, Sendable {
        public var scale: Double?
        public var mean: [Double]?
        public var standardDeviation: [Double]?
        public init(scale: Double? = nil, mean: [Double]? = nil, standardDeviation: [Double]? = nil) {
            self.scale = scale
            self.mean = mean
            self.standardDeviation = standardDeviation
        }
    }

    public var name: String
    public var role: Role
    public var dtype: DType
    /// The shape of one row; empty for one number a row.
    public var shape: [Int]
    public var missing: MissingRule?
    public var transform: Transform?
    /// Class names, for a target of class indices 0, 1, ….
    public var classes: [String]?
    /// The CSV columns that make up a row, in order.
    public var columns: [String]?

    public init(
        _ name: String, role: Role, dtype: DType, shape: [Int], missing: MissingRule? = nil, transform: Transform? = nil,
        classes: [String]? = nil, columns: [String]? = nil
    ) {
        self.name = name
        self.role = role
        self.dtype = dtype
        self.shape = shape
        self.missing = missing
        self.transform = transform
        self.classes = classes
        self.columns = columns
    }

    public static let keys = ["name", "role", "dtype", "shape", "missing", "transform", "classes", "columns"]
    public static let transformKeys = ["scale", "mean", "standardDeviation"]
    /// Elements of one row.
    public var rowElementCount: Int { shape.reduce(1, *) }
}
