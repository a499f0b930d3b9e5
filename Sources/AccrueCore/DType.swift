public import Foundation

/// The element types that tensors may have, named as safetensors names them.
public enum DType: String, Codable, Sendable, CaseIterable {
    case f64 = "F64"
    case f32 = "F32"
    case f16 = "F16"
    case bf16 = "BF16"
    case i64 = "I64"
    case i32 = "I32"
    case i16 = "I16"
    case i8 = "I8"
    case u8 = "U8"
    case bool = "BOOL"

    /// Bytes per element.
    public var byteCount: Int {
        switch self {
        case .f64, .i64: 8
        case .f32, .i32: 4
        case .f16, .bf16, .i16: 2
        case .i8, .u8, .bool: 1
        }
    }

    public var isFloatingPoint: Bool {
        switch self {
        case .f64, .f32, .f16, .bf16: true
        default: false
        }
    }

    /// Appends a number in this form, little-endian.
    /// - Returns: false, and nothing is appended, when the number is none of this type's; always of F16 and BF16, which are read and not written.
    public func append(_ value: Double, to data: inout Data) -> Bool {
        guard isFloatingPoint else { return Int(exactly: value).map { append($0, to: &data) } ?? false }
        switch self {
        case .f64: withUnsafeBytes(of: value) { data.append(contentsOf: $0) }
        case .f32: withUnsafeBytes(of: Float(value)) { data.append(contentsOf: $0) }
        default: return false
        }
        return true
    }

    /// As for other numbers; whole ones of any size stay exact in whole types.
    public func append(_ value: Int, to data: inout Data) -> Bool {
        func whole<Integer: FixedWidthInteger>(_: Integer.Type) -> Bool {
            guard let number = Integer(exactly: value) else { return false }
            withUnsafeBytes(of: number.littleEndian) { data.append(contentsOf: $0) }
            return true
        }
        switch self {
        case .i64: return whole(Int64.self)
        case .i32: return whole(Int32.self)
        case .i16: return whole(Int16.self)
        case .i8: return whole(Int8.self)
        case .u8: return whole(UInt8.self)
        case .bool: return (0...1).contains(value) && whole(UInt8.self)
        case .f64, .f32, .f16, .bf16: return append(Double(value), to: &data)
        }
    }
}
