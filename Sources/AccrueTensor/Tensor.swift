public import AccrueCore
import CTorch
import Foundation

/// An immutable array of numbers on the CPU, of any shape.
///
/// Operations make new tensors. Each throws `AccrueError` with the shapes of its operands: `invalidInput` when shapes or element types do not fit,
/// `engine` when the library fails otherwise. Inside `valueAndGradient` operations on the weights are recorded.
public struct Tensor: Sendable {
    /// Owns one handle of the library. Its elements are never written after it is made, and the library counts references atomically.
    final class Storage: @unchecked Sendable {
        let handle: ct_tensor
        init(_ handle: ct_tensor) { self.handle = handle }
        deinit { ct_free(handle) }
    }

    private let storage: Storage
    var handle: ct_tensor { storage.handle }

    init(owning handle: ct_tensor) { storage = Storage(handle) }

    /// Row lengths, outermost first; empty for a scalar.
    public var shape: [Int] { (0..<ct_dims(handle)).map { Int(ct_size(handle, $0)) } }
    public var elementCount: Int { Int(ct_count(handle)) }
    public var dtype: DType { DType.allCases[Int(ct_type(handle))] }
    /// The first dimension; 1 for a scalar.
    public var rowCount: Int { ct_dims(handle) > 0 ? Int(ct_size(handle, 0)) : 1 }

    // MARK: making

    /// A copy of the bytes.
    /// - Throws: `engine` when there is no memory for it.
    public init(_ bytes: TensorBytes) throws(AccrueError) {
        let shape = bytes.shape.map(Int64.init)
        let handle = bytes.data.withUnsafeBytes { ct_from_bytes($0.baseAddress, bytes.dtype.index, shape, Int32(shape.count)) }
        self.init(owning: try Self.made(handle, "making a tensor of shape \(bytes.shape)"))
    }

    /// Elements row by row, as many as the shape says: F32, F64 or I64.
    public init(_ values: [Float], shape: [Int]) throws(AccrueError) { try self.init(TensorBytes(values, shape: shape)) }
    public init(_ values: [Double], shape: [Int]) throws(AccrueError) { try self.init(TensorBytes(values, shape: shape)) }
    public init(_ values: [Int64], shape: [Int]) throws(AccrueError) { try self.init(TensorBytes(values, shape: shape)) }
    /// Whole numbers (I64), shape [count].
    public init(_ values: [Int]) throws(AccrueError) { try self.init(TensorBytes(values.map(Int64.init), shape: [values.count])) }

    /// A tensor of this shape whose elements all have one value.
    public static func full(_ shape: [Int], _ value: Double, dtype: DType = .f32) throws(AccrueError) -> Tensor {
        let sizes = shape.map(Int64.init)
        return Tensor(owning: try made(ct_full(sizes, Int32(sizes.count), value, dtype.index), "making a tensor of shape \(shape)"))
    }

    public static func zeros(_ shape: [Int], dtype: DType = .f32) throws(AccrueError) -> Tensor { try full(shape, 0, dtype: dtype) }
    public static func ones(_ shape: [Int], dtype: DType = .f32) throws(AccrueError) -> Tensor { try full(shape, 1, dtype: dtype) }
    public static func scalar(_ value: Double, dtype: DType = .f32) throws(AccrueError) -> Tensor { try full([], value, dtype: dtype) }

    /// Zeros of the same shape and type.
    public func zerosLike() throws(AccrueError) -> Tensor { try .zeros(shape, dtype: dtype) }

    // MARK: reading

    /// A copy of the elements.
    public func bytes() throws(AccrueError) -> TensorBytes {
        let shape = shape, dtype = dtype
        var data = Data(count: shape.reduce(dtype.byteCount, *))
        let status = data.withUnsafeMutableBytes { ct_copy_bytes(handle, $0.baseAddress, Int64($0.count)) }
        guard status == 0 else { throw Self.failure("reading a tensor of shape \(shape)") }
        return TensorBytes(dtype: dtype, shape: shape, data: data)
    }

    /// The elements as Float64, row by row.
    public func doubles() throws(AccrueError) -> [Double] { try bytes().doubles() }

    /// The elements of an F32 tensor, row by row.
    /// - Throws: `invalidInput` for another element type.
    public func floats() throws(AccrueError) -> [Float] {
        guard dtype == .f32 else { throw AccrueError(.invalidInput, while: "reading a tensor", "its elements are \(dtype.rawValue), not F32") }
        var values = [Float](repeating: 0, count: elementCount)
        let status = values.withUnsafeMutableBytes { ct_copy_bytes(handle, $0.baseAddress, Int64($0.count)) }
        guard status == 0 else { throw Self.failure("reading a tensor of shape \(shape)") }
        return values
    }

    /// The only element.
    /// - Throws: `invalidInput` when there are none or several.
    public func item() throws(AccrueError) -> Double {
        guard elementCount == 1 else { throw AccrueError(.invalidInput, while: "reading one number", "the tensor has shape \(shape)") }
        return ct_item(handle)
    }

    /// Whether no element is NaN or infinite.
    public func isFinite() throws(AccrueError) -> Bool {
        let answer = ct_all_finite(handle)
        guard answer >= 0 else { throw Self.failure("looking for values that are not finite") }
        return answer == 1
    }

    // MARK: errors

    static func made(_ handle: ct_tensor?, _ operation: @autoclosure () -> String) throws(AccrueError) -> ct_tensor {
        guard let handle else { throw failure(operation()) }
        return handle
    }

    /// The library's reason for the last failure of this thread, as an error.
    static func failure(_ operation: String) -> AccrueError {
        AccrueError(.engine, while: operation, String(cString: ct_error()), hint: "check the shapes and the memory that is free")
    }

    /// The result of an operation on tensors; shapes are written only when it failed.
    static func result(_ name: StaticString, _ operands: [Tensor], _ handle: ct_tensor?) throws(AccrueError) -> Tensor {
        guard let handle else {
            let shapes = operands.map { "\($0.dtype.rawValue) \($0.shape)" }.joined(separator: ", ")
            throw AccrueError(
                .invalidInput, while: "computing \(name) of \(shapes)", String(cString: ct_error()), hint: "check the shapes and element types")
        }
        return Tensor(owning: handle)
    }
}

extension DType {
    /// The library's number of this type.
    var index: Int32 { Int32(DType.allCases.firstIndex(of: self) ?? 0) }
}
