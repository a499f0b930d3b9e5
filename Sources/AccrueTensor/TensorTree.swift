public import AccrueCore

/// A value made of named tensors: weights, gradients, optimiser moments.
///
/// One function visits every tensor in a fixed order; `tensors`, `map`, `zip` and the stored form derive from it. A gradient is a tree of the same
/// type as the weights.
public protocol TensorTree: Sendable {
    /// Calls `body` with each tensor's name and the tensor, always in the same order, and keeps what it writes.
    mutating func visit(_ body: (_ name: String, _ tensor: inout Tensor) throws(AccrueError) -> Void) throws(AccrueError)
}

extension TensorTree {
    /// Names and tensors, in visiting order.
    public var tensors: [(name: String, tensor: Tensor)] {
        var copy = self
        var result: [(name: String, tensor: Tensor)] = []
        // Nothing in the body throws.
        try? copy.visit { (name, tensor) throws(AccrueError) in result.append((name, tensor)) }
        return result
    }

    public var elementCount: Int { tensors.reduce(0) { $0 + $1.tensor.elementCount } }

    public func map(_ transform: (Tensor) throws(AccrueError) -> Tensor) throws(AccrueError) -> Self {
        var result = self
        try result.visit { (_, tensor) throws(AccrueError) in tensor = try transform(tensor) }
        return result
    }

    /// Tensor by tensor with trees of the same structure.
    /// - Throws: `invalidInput` when one of the others has other names.
    public func zip(_ others: Self..., transform: (Tensor, [Tensor]) throws(AccrueError) -> Tensor) throws(AccrueError) -> Self {
        let parts = others.map(\.tensors)
        var result = self
        var index = 0
        try result.visit { (name, tensor) throws(AccrueError) in
            var operands: [Tensor] = []
            for part in parts {
                guard index < part.count, part[index].name == name else {
                    throw AccrueError(.invalidInput, while: "combining trees of tensors", "one has '\(name)', another does not", hint: "combine values of the same model")
                }
                operands.append(part[index].tensor)
            }
            tensor = try transform(tensor, operands)
            index += 1
        }
        return result
    }

    /// The same tree with the tensors of a list in visiting order.
    func replacing(_ list: [Tensor]) throws(AccrueError) -> Self {
        var result = self
        var index = 0
        try result.visit { (_, tensor) throws(AccrueError) in
            tensor = list[index]
            index += 1
        }
        return result
    }

    public func zeros() throws(AccrueError) -> Self { try map { (tensor) throws(AccrueError) in try tensor.zerosLike() } }

    /// Whether no element of any tensor is NaN or infinite.
    public func isFinite() throws(AccrueError) -> Bool {
        for (_, tensor) in tensors where !(try tensor.isFinite()) { return false }
        return true
    }

    /// The stored form, each name under a prefix.
    public func stored(_ prefix: String = "") throws(AccrueError) -> [String: TensorBytes] {
        var result: [String: TensorBytes] = [:]
        for (name, tensor) in tensors { result[prefix + name] = try tensor.bytes() }
        return result
    }

    /// A tree of this one's structure, shapes and types with stored tensors.
    /// - Throws: `corrupt` when one is missing or of another shape or type.
    public func reading(_ stored: Safetensors, _ prefix: String = "", while operation: String) throws(AccrueError) -> Self {
        var result = self
        try result.visit { (name, tensor) throws(AccrueError) in
            guard let bytes = stored.tensors[prefix + name], bytes.dtype == tensor.dtype, bytes.shape == tensor.shape else {
                let found = stored.tensors[prefix + name].map { "is \($0.dtype.rawValue) \($0.shape)" } ?? "is missing"
                throw AccrueError(
                    .corrupt, while: operation, "tensor '\(prefix + name)' \(found); \(tensor.dtype.rawValue) \(tensor.shape) is needed",
                    hint: "these bytes belong to another method or to other settings")
            }
            tensor = try Tensor(bytes)
        }
        return result
    }
}

/// Tensors by name, in a fixed order: the weights of models that are declared in settings.
public struct NamedTensors: TensorTree {
    public private(set) var names: [String]
    private var values: [String: Tensor]

    public init(_ list: [(String, Tensor)] = []) {
        names = list.map(\.0)
        values = Dictionary(list, uniquingKeysWith: { $1 })
    }

    /// - Throws: `notFound` when there is no such tensor.
    public func tensor(_ name: String) throws(AccrueError) -> Tensor {
        guard let tensor = values[name] else {
            throw AccrueError(.notFound, while: "looking up a tensor", "there is no '\(name)'; there are \(names.joined(separator: ", "))")
        }
        return tensor
    }

    public func contains(_ name: String) -> Bool { values[name] != nil }

    public mutating func visit(_ body: (String, inout Tensor) throws(AccrueError) -> Void) throws(AccrueError) {
        for name in names {
            guard var tensor = values[name] else { continue }
            try body(name, &tensor)
            values[name] = tensor
        }
    }
}
