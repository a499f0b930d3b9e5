public import AccrueCore

/// Tensors by name, visited in the order of their names: the weights of models that are declared in settings.
public struct NamedTensors: TensorTree {
    public private(set) var names: [String]
    private var values: [String: Tensor]

    /// - Parameter list: with different names.
    public init(_ list: [(String, Tensor)] = []) {
        values = Dictionary(list, uniquingKeysWith: { $1 })
        names = values.keys.sorted()
    }

    /// The stored tensors whose names begin with a prefix, without it.
    public init(_ stored: Safetensors, prefix: String) throws(AccrueError) {
        var list: [(String, Tensor)] = []
        for (name, bytes) in stored.tensors where name.hasPrefix(prefix) { list.append((String(name.dropFirst(prefix.count)), try Tensor(bytes))) }
        self.init(list)
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

    /// - Throws: `corrupt` unless names, shapes and types are those of `expected`.
    public func check(against expected: NamedTensors, while operation: String) throws(AccrueError) {
        for (name, tensor) in expected.tensors {
            let found = values[name]
            guard let found, found.shape == tensor.shape, found.dtype == tensor.dtype else {
                let what = found.map { "is \($0.dtype.rawValue) \($0.shape)" } ?? "is missing"
                throw AccrueError(
                    .corrupt, while: operation, "tensor '\(name)' \(what); \(tensor.dtype.rawValue) \(tensor.shape) is needed",
                    hint: "these bytes belong to another method or to other settings")
            }
        }
        guard names.count == expected.names.count else {
            throw AccrueError(.corrupt, while: operation, "there are \(names.count) tensors; the model has \(expected.names.count)", hint: "these bytes belong to other settings")
        }
    }
}
