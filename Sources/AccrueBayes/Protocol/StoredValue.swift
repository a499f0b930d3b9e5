public import AccrueCore
public import Foundation

/// A value inside a method that has a safetensors form: states, work, deltas and moments.
///
/// The form holds nothing measured (no times, hosts, durations): equal values have equal bytes.
public protocol StoredValue: Sendable {
    var stored: Safetensors { get }
    /// - Throws: `corrupt` when a tensor or an entry of the metadata is missing or of another shape than the value needs.
    init(_ stored: Safetensors) throws(AccrueError)
}

extension StoredValue {
    /// The canonical bytes.
    public var bytes: Data { stored.encode() }

    /// - Throws: `corrupt` when the bytes are not well-formed, or not of this type.
    public init(bytes: Data) throws(AccrueError) { try self.init(try Safetensors.decode(bytes)) }
}

extension Safetensors {
    /// The named tensor as Float64 numbers.
    /// - Parameter shape: what its shape must be; nil for any.
    /// - Throws: `corrupt` when it is missing or has another shape.
    public func doubles(_ name: String, shape: [Int]? = nil, while operation: String) throws(AccrueError) -> [Double] {
        guard let tensor = tensors[name] else {
            throw AccrueError(
                .corrupt, while: operation, "tensor '\(name)' is missing; there are \(tensors.keys.sorted().joined(separator: ", "))",
                hint: "these bytes belong to another method or to other settings")
        }
        if let shape, tensor.shape != shape {
            throw AccrueError(
                .corrupt, while: operation, "tensor '\(name)' has shape \(tensor.shape); \(shape) is needed",
                hint: "these bytes belong to another method or to other settings")
        }
        return tensor.doubles()
    }
}

/// Nothing: the statistics of methods without a statistics pass.
public struct NoStatistics: StoredValue, Equatable {
    public init() {}
    public init(_ stored: Safetensors) throws(AccrueError) {}
    public var stored: Safetensors { Safetensors(tensors: [:]) }
}
