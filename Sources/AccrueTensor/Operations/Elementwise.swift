public import AccrueCore
import CTorch

extension Tensor {
    private static func binary(_ name: StaticString, _ op: ct_binary, _ a: Tensor, _ b: Tensor) throws(AccrueError) -> Tensor {
        try result(name, [a, b], ct_apply_binary(Int32(op.rawValue), a.handle, b.handle))
    }
    private static func scalar(_ name: StaticString, _ op: ct_binary, _ a: Tensor, _ b: Double) throws(AccrueError) -> Tensor {
        try result(name, [a], ct_apply_scalar(Int32(op.rawValue), a.handle, b))
    }
    private func unary(_ name: StaticString, _ op: ct_unary) throws(AccrueError) -> Tensor {
        try Self.result(name, [self], ct_apply_unary(Int32(op.rawValue), handle))
    }

    // Shapes broadcast as everywhere: from the last dimension backwards, 1 stretches.
    public static func + (a: Tensor, b: Tensor) throws(AccrueError) -> Tensor { try binary("a sum", CT_ADD, a, b) }
    public static func - (a: Tensor, b: Tensor) throws(AccrueError) -> Tensor { try binary("a difference", CT_SUB, a, b) }
    public static func * (a: Tensor, b: Tensor) throws(AccrueError) -> Tensor { try binary("a product", CT_MUL, a, b) }
    public static func / (a: Tensor, b: Tensor) throws(AccrueError) -> Tensor { try binary("a quotient", CT_DIV, a, b) }
    public static func + (a: Tensor, b: Double) throws(AccrueError) -> Tensor { try scalar("a sum", CT_ADD, a, b) }
    public static func - (a: Tensor, b: Double) throws(AccrueError) -> Tensor { try scalar("a difference", CT_SUB, a, b) }
    public static func * (a: Tensor, b: Double) throws(AccrueError) -> Tensor { try scalar("a product", CT_MUL, a, b) }
    public static func / (a: Tensor, b: Double) throws(AccrueError) -> Tensor { try scalar("a quotient", CT_DIV, a, b) }

    // The larger or smaller of two, element by element; the gradient flows to the one that was taken.
    public func maximum(_ other: Tensor) throws(AccrueError) -> Tensor { try Self.binary("a maximum", CT_MAXIMUM, self, other) }
    public func minimum(_ other: Tensor) throws(AccrueError) -> Tensor { try Self.binary("a minimum", CT_MINIMUM, self, other) }
    public func maximum(_ bound: Double) throws(AccrueError) -> Tensor { try Self.scalar("a maximum", CT_MAXIMUM, self, bound) }
    public func minimum(_ bound: Double) throws(AccrueError) -> Tensor { try Self.scalar("a minimum", CT_MINIMUM, self, bound) }
    public func power(_ exponent: Double) throws(AccrueError) -> Tensor { try Self.scalar("a power", CT_POW, self, exponent) }
    /// Where the elements are equal: BOOL.
    public func equals(_ other: Tensor) throws(AccrueError) -> Tensor { try Self.binary("a comparison", CT_EQUAL, self, other) }
    /// Where the elements are below: BOOL.
    public func isBelow(_ other: Tensor) throws(AccrueError) -> Tensor { try Self.binary("a comparison", CT_LESS, self, other) }
    /// Where the elements are below: BOOL.
    public func isBelow(_ bound: Double) throws(AccrueError) -> Tensor { try Self.scalar("a comparison", CT_LESS, self, bound) }

    /// The matrix product; leading dimensions broadcast.
    public func matmul(_ other: Tensor) throws(AccrueError) -> Tensor { try Self.binary("a matrix product", CT_MATMUL, self, other) }

    public func negated() throws(AccrueError) -> Tensor { try unary("a negation", CT_NEG) }
    public func exp() throws(AccrueError) -> Tensor { try unary("an exponential", CT_EXP) }
    public func expm1() throws(AccrueError) -> Tensor { try unary("expm1", CT_EXPM1) }
    public func log() throws(AccrueError) -> Tensor { try unary("a logarithm", CT_LOG) }
    public func log1p() throws(AccrueError) -> Tensor { try unary("log1p", CT_LOG1P) }
    public func squareRoot() throws(AccrueError) -> Tensor { try unary("a square root", CT_SQRT) }
    public func reciprocalSquareRoot() throws(AccrueError) -> Tensor { try unary("a reciprocal square root", CT_RSQRT) }
    public func squared() throws(AccrueError) -> Tensor { try unary("a square", CT_SQUARE) }
    public func absolute() throws(AccrueError) -> Tensor { try unary("absolute values", CT_ABS) }
    public func relu() throws(AccrueError) -> Tensor { try unary("a ReLU", CT_RELU) }
    public func sigmoid() throws(AccrueError) -> Tensor { try unary("a sigmoid", CT_SIGMOID) }
    public func tanh() throws(AccrueError) -> Tensor { try unary("tanh", CT_TANH) }
    public func softplus() throws(AccrueError) -> Tensor { try unary("a softplus", CT_SOFTPLUS) }
    public func reciprocal() throws(AccrueError) -> Tensor { try unary("a reciprocal", CT_RECIPROCAL) }
    public func sign() throws(AccrueError) -> Tensor { try unary("signs", CT_SIGN) }
    /// The same values, without a recorded past.
    public func detached() throws(AccrueError) -> Tensor { try unary("a detached tensor", CT_DETACH) }

    /// Elements moved into the range; the gradient is zero outside it.
    public func clamped(_ range: ClosedRange<Double>) throws(AccrueError) -> Tensor {
        try Self.result("a clamp", [self], ct_clamp(handle, range.lowerBound, range.upperBound))
    }

    /// This tensor moved by `share` of the way to another of its shape.
    public func blended(with other: Tensor, share: Double) throws(AccrueError) -> Tensor {
        try Self.result("a blend", [self, other], ct_blend(handle, other.handle, share))
    }

    /// Elements of `a` where this BOOL tensor is true, of `b` elsewhere.
    public func select(_ a: Tensor, _ b: Tensor) throws(AccrueError) -> Tensor {
        try Self.result("a selection", [self, a, b], ct_where(handle, a.handle, b.handle))
    }

    /// The same values in another element type: rounded to nearest, cut towards zero for whole numbers.
    public func cast(to dtype: DType) throws(AccrueError) -> Tensor { try Self.result("a conversion", [self], ct_to_type(handle, dtype.index)) }
}
