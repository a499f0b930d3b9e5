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

    /// Each tensor by itself.
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

    /// Zeros of the same structure.
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
}
