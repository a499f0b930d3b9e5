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
    /// How raw rows of a picture are to be understood.
    public enum Format: String, Codable, CaseIterable, Sendable {
        /// One square frame of 3/2·side² bytes: planes Y, Cb and Cr, the latter two of half the side. Read as red, green and blue, [3, side, side].
        case i420
    }
    /// A fixed transform: the format is read, each pool × pool square of a picture becomes its mean, then `(value * scale - mean) / standardDeviation`;
    /// declared, never estimated.
    public struct Transform: Codable, Equatable, Sendable {
        public var format: Format?
        public var pool: Int?
        public var scale: Double?
        public var mean: [Double]?
        public var standardDeviation: [Double]?
        public init(format: Format? = nil, pool: Int? = nil, scale: Double? = nil, mean: [Double]? = nil, standardDeviation: [Double]? = nil) {
            self.format = format
            self.pool = pool
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
    public static let transformKeys = ["format", "pool", "scale", "mean", "standardDeviation"]
    /// Elements of one row.
    public var rowElementCount: Int { shape.reduce(1, *) }

    /// The shape of one row after the transform.
    public var transformedShape: [Int] {
        let read = transform?.format == .i420 ? [3, frameSide ?? 0, frameSide ?? 0] : shape
        guard let pool = transform?.pool, pool > 1, read.count >= 2 else { return read }
        return read.dropLast(2) + read.suffix(2).map { $0 / pool }
    }

    /// The side of a square I420 frame of this shape; nil when it is none.
    public var frameSide: Int? {
        guard shape.count == 1, let bytes = shape.first else { return nil }
        let side = Int((Double(bytes) * 2 / 3).squareRoot().rounded())
        return side % 2 == 0 && side > 0 && 3 * side * side == 2 * bytes ? side : nil
    }

    /// What is wrong with the transform's `format` and `pool`; nil when nothing is.
    var transformProblem: String? {
        if transform?.format == .i420, dtype != .u8 || frameSide == nil {
            return "transform.format of '\(name)' is i420, but rows are \(dtype.rawValue) \(shape); U8 frames of [3/2·side²] with an even side are needed, [1536] for a side of 32"
        }
        guard let pool = transform?.pool else { return nil }
        let read = transform?.format == .i420 ? [3, frameSide ?? 0, frameSide ?? 0] : shape
        guard pool >= 1, (2...3).contains(read.count), read.suffix(2).allSatisfy({ $0 % pool == 0 }) else {
            return "transform.pool of '\(name)' is \(pool); it must divide height and width of a picture, and rows have shape \(read)"
        }
        return nil
    }
}
