public import Foundation

/// A tensor as bytes: element type, shape, and little-endian data with the last dimension fastest.
///
/// This is the form in which tensors cross process borders; the numerical layers have their own `Tensor`.
public struct TensorBytes: Equatable, Sendable {
    public let dtype: DType
    public let shape: [Int]
    /// `elementCount * dtype.byteCount` bytes; may be a slice of a mapped file.
    public let data: Data

    /// - Precondition: `data` holds exactly the bytes that dtype and shape say. Bytes from outside go through `Safetensors`, which checks.
    public init(dtype: DType, shape: [Int], data: Data) {
        precondition(
            data.count == shape.reduce(dtype.byteCount, *),
            "TensorBytes of \(dtype.rawValue) \(shape) given \(data.count) bytes")
        self.dtype = dtype
        self.shape = shape
        self.data = data
    }

    public var elementCount: Int { shape.reduce(1, *) }
    /// The first dimension; 1 for a scalar.
    public var rowCount: Int { shape.first ?? 1 }

    /// Rows `range` of the first dimension, sharing the same storage.
    public func rows(_ range: Range<Int>) -> TensorBytes {
        let rowBytes = shape.dropFirst().reduce(dtype.byteCount, *)
        let start = data.startIndex + range.lowerBound * rowBytes
        return TensorBytes(
            dtype: dtype, shape: [range.count] + shape.dropFirst(), data: data[start..<start + range.count * rowBytes])
    }

    /// The rows of these numbers, in this order.
    public func rows(at numbers: some Collection<Int>) -> TensorBytes {
        let rowBytes = shape.dropFirst().reduce(dtype.byteCount, *)
        var gathered = Data(capacity: numbers.count * rowBytes)
        for row in numbers {
            let start = data.startIndex + row * rowBytes
            gathered.append(data[start..<start + rowBytes])
        }
        return TensorBytes(dtype: dtype, shape: [numbers.count] + shape.dropFirst(), data: gathered)
    }

    /// Tensors of one type and row shape, one after the other; nil of none.
    public static func joined(_ parts: [TensorBytes]) -> TensorBytes? {
        guard let first = parts.first else { return nil }
        var data = Data(capacity: parts.reduce(0) { $0 + $1.data.count })
        for part in parts { data.append(part.data) }
        return TensorBytes(dtype: first.dtype, shape: [parts.reduce(0) { $0 + $1.rowCount }] + first.shape.dropFirst(), data: data)
    }

    public init(_ values: [Double], shape: [Int]) {
        self.init(dtype: .f64, shape: shape, data: values.withUnsafeBytes { Data($0) })
    }

    public init(_ values: [Float], shape: [Int]) {
        self.init(dtype: .f32, shape: shape, data: values.withUnsafeBytes { Data($0) })
    }

    public init(_ values: [Int64], shape: [Int]) {
        self.init(dtype: .i64, shape: shape, data: values.withUnsafeBytes { Data($0) })
    }

    public init(_ values: [UInt8], shape: [Int]) {
        self.init(dtype: .u8, shape: shape, data: Data(values))
    }

    /// All elements as Float64, in order. F16 and BF16 are widened exactly.
    public func doubles() -> [Double] {
        switch dtype {
        case .f64: load(Double.self) { $0 }
        case .f32: load(Float.self, Double.init)
        case .f16: load(UInt16.self) { Double(Self.float(half: $0)) }
        case .bf16: load(UInt16.self) { Double(Float(bitPattern: UInt32($0) << 16)) }
        case .i64: load(Int64.self, Double.init)
        case .i32: load(Int32.self, Double.init)
        case .i16: load(Int16.self, Double.init)
        case .i8: load(Int8.self, Double.init)
        case .u8, .bool: load(UInt8.self, Double.init)
        }
    }

    /// The index of the first element that is infinite or, unless they are allowed, not a number; nil of whole numbers.
    public func firstNotFinite(allowingNaN: Bool = false) -> Int? {
        // Adding the exponent's lowest bit carries into the sign where all its bits are set; a block of numbers that are all finite takes no branch.
        func scan<Word: FixedWidthInteger & UnsignedInteger & BitwiseCopyable>(_: Word.Type, exponent: Word, fraction: Word) -> Int? {
            data.withUnsafeBytes { bytes in
                func word(_ index: Int) -> Word { bytes.loadUnaligned(fromByteOffset: index * MemoryLayout<Word>.size, as: Word.self) }
                let lowest = exponent & (0 &- exponent), sign = ~(Word.max >> 1)
                for start in stride(from: 0, to: elementCount, by: 1_024) {
                    let block = start..<min(start + 1_024, elementCount)
                    var carried: Word = 0
                    for index in block { carried |= (word(index) & exponent) &+ lowest }
                    guard carried & sign != 0 else { continue }
                    for index in block where word(index) & exponent == exponent {
                        if !(allowingNaN && word(index) & fraction != 0) { return index }
                    }
                }
                return nil
            }
        }
        return switch dtype {
        case .f64: scan(UInt64.self, exponent: 0x7FF0_0000_0000_0000, fraction: 0x000F_FFFF_FFFF_FFFF)
        case .f32: scan(UInt32.self, exponent: 0x7F80_0000, fraction: 0x007F_FFFF)
        case .f16: scan(UInt16.self, exponent: 0x7C00, fraction: 0x03FF)
        case .bf16: scan(UInt16.self, exponent: 0x7F80, fraction: 0x007F)
        default: nil
        }
    }

    private func load<Element: BitwiseCopyable>(_: Element.Type, _ convert: (Element) -> Double) -> [Double] {
        data.withUnsafeBytes { bytes in
            (0..<elementCount).map { index in
                convert(bytes.loadUnaligned(fromByteOffset: index * MemoryLayout<Element>.size, as: Element.self))
            }
        }
    }

    /// IEEE 754 binary16 to binary32; exact.
    private static func float(half bits: UInt16) -> Float {
        let sign: Float = bits >> 15 == 1 ? -1 : 1
        let exponent = Int(bits >> 10 & 0x1F)
        let fraction = Float(bits & 0x3FF)
        switch exponent {
        case 0: return sign * fraction * 0x1p-24
        case 31: return fraction == 0 ? sign * .infinity : .nan
        default: return sign * (1 + fraction * 0x1p-10) * Float(sign: .plus, exponent: exponent - 15, significand: 1)
        }
    }
}
