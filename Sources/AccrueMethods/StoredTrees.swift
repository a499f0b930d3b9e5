import AccrueCore
import AccrueTensor

/// The stored form of values that are several trees of tensors and a few whole numbers: each tree under its name and a dot.
enum StoredTrees {
    static func stored(_ trees: [String: NamedTensors], _ metadata: [String: String] = [:]) -> Safetensors {
        var tensors: [String: TensorBytes] = [:]
        for (prefix, tree) in trees {
            for (name, tensor) in tree.tensors {
                // Reading a tensor fails only without memory for the copy.
                guard let bytes = try? tensor.bytes() else { preconditionFailure("no memory for a copy of tensor '\(name)'") }
                tensors["\(prefix).\(name)"] = bytes
            }
        }
        return Safetensors(tensors: tensors, metadata: metadata)
    }

    /// The tree under a prefix, nil when there is none.
    static func optional(_ prefix: String, _ stored: Safetensors) throws(AccrueError) -> NamedTensors? {
        let tree = try NamedTensors(stored, prefix: prefix)
        return tree.names.isEmpty ? nil : tree
    }

    /// Trees of a list, each under the list's name and its place.
    static func numbered(_ name: String, _ list: [NamedTensors]) -> [String: NamedTensors] {
        Dictionary(uniqueKeysWithValues: list.enumerated().map { ("\(name).\($0.offset)", $0.element) })
    }

    /// - Throws: `corrupt` for a number of trees that no file holds.
    static func numbered(_ name: String, _ count: Int, _ stored: Safetensors) throws(AccrueError) -> [NamedTensors] {
        guard 0...Limits.safetensorsTensorsMax ~= count else {
            throw AccrueError(.corrupt, while: "reading stored tensors", "there are said to be \(count) of '\(name)'")
        }
        var list: [NamedTensors] = []
        for place in 0..<count { list.append(try NamedTensors(stored, prefix: "\(name).\(place).")) }
        return list
    }

    /// A whole number of the metadata.
    /// - Throws: `corrupt` when it is not there.
    static func whole(_ name: String, _ stored: Safetensors) throws(AccrueError) -> Int {
        guard let text = stored.metadata[name], let number = Int(text) else {
            throw AccrueError(.corrupt, while: "reading stored tensors", "metadata '\(name)' is not a whole number", hint: "these bytes belong to another method")
        }
        return number
    }
}
