import AccrueBayes
import AccrueCore
import AccrueTensor
import Foundation

/// Weights that come from outside a stream of data: a network in a file, and classes that are appended.
enum WeightsFromOutside {
    private static let operation = "importing a posterior"

    /// The method that made an export of Accrue's own; nil: the tensors are a bare network's.
    static func method(of imported: Safetensors) -> String? { imported.metadata["method"] }

    /// A network's weights, whatever their floating-point type, in the names and shapes of the model's.
    /// - Parameters:
    ///   - prefix: of the names in the file.
    ///   - given: for weights that a file may leave out.
    /// - Throws: `invalidInput` naming the tensor that does not fit, its shape and the one needed.
    static func weights(_ imported: Safetensors, prefix: String = "", like expected: NamedTensors, given: NamedTensors = NamedTensors()) throws(AccrueError) -> NamedTensors {
        var list: [(String, Tensor)] = []
        for (name, tensor) in expected.tensors {
            guard let bytes = imported.tensors[prefix + name] else {
                if given.contains(name) {
                    list.append((name, try given.tensor(name)))
                    continue
                }
                throw refusal("there is no tensor '\(prefix)\(name)', which has shape \(tensor.shape); there are \(imported.tensors.keys.sorted().prefix(8).joined(separator: ", "))")
            }
            guard bytes.shape == tensor.shape else {
                throw refusal("tensor '\(prefix)\(name)' has shape \(bytes.shape); the model needs \(tensor.shape)")
            }
            let weight = try Tensor(bytes).cast(to: tensor.dtype)
            guard try weight.isFinite() else { throw refusal("tensor '\(prefix)\(name)' has numbers that are not finite") }
            list.append((name, weight))
        }
        if prefix.isEmpty, let other = imported.tensors.keys.sorted().first(where: { !expected.contains($0) }) {
            throw refusal("tensor '\(other)' is none of the model's, which are \(expected.names.joined(separator: ", "))")
        }
        return NamedTensors(list)
    }

    /// A bare network's weights; those of the likelihood may be left out, and are then as they were.
    static func network(_ imported: Safetensors, like expected: NamedTensors, likelihood: Likelihood) throws(AccrueError) -> NamedTensors {
        try weights(imported, like: expected, given: NamedTensors(try likelihood.ownWeights().map { (name, _) throws(AccrueError) in (name, try expected.tensor(name)) }))
    }

    /// The network that an export of another method centres on: its tensors of role `mean`, by what stands after the first dot. A bare network is its own.
    /// - Throws: `invalidInput` when the export has none.
    static func means(_ imported: Safetensors) throws(AccrueError) -> Safetensors {
        guard let method = method(of: imported) else { return imported }
        let roles = imported.metadata["roles"].flatMap { try? JSONValue(parsing: Data($0.utf8)) }
        var network: [String: TensorBytes] = [:]
        for (name, tensor) in imported.tensors where roles?[name]?.string == ParameterRole.mean.word {
            network[name.split(separator: ".", maxSplits: 1).last.map(String.init) ?? name] = tensor
        }
        guard !network.isEmpty else { throw strange(method, needed: "a network, or a posterior that centres on one,") }
        return Safetensors(tensors: network)
    }

    /// The same, with batch statistics as NAME.mean and NAME.variance beside the weights; those may be left out, and are then as they were.
    static func network(
        _ imported: Safetensors, weights: NamedTensors, statistics: NamedTensors, likelihood: Likelihood
    ) throws(AccrueError) -> (weights: NamedTensors, statistics: NamedTensors) {
        let all = weights.joined(with: statistics)
        let own = try likelihood.ownWeights().map { (name, _) throws(AccrueError) in (name, try weights.tensor(name)) }
        let found = try Self.weights(imported, like: all, given: statistics.joined(with: NamedTensors(own)))
        func part(_ tree: NamedTensors) throws(AccrueError) -> NamedTensors {
            NamedTensors(try tree.names.map { (name) throws(AccrueError) in (name, try found.tensor(name)) })
        }
        return (try part(weights), try part(statistics))
    }

    private static func refusal(_ problem: String) -> AccrueError {
        AccrueError(.invalidInput, while: operation, problem, hint: "name and shape the tensors as 'accrue query NAME describe' lists the model's layers")
    }

    /// An export of another kind than this method makes.
    static func strange(_ method: String, needed: String) -> AccrueError {
        AccrueError(.invalidInput, while: operation, "the file is a posterior of \(method); \(needed) is needed", hint: "import a network's weights, or into a pipeline of that method")
    }

    /// Tensors with more rows where the model has more outputs: the old rows first and unchanged, then those of `rest`.
    /// - Throws: `invalidInput` when something else than the number of rows differs.
    static func appended(_ old: NamedTensors, _ rest: NamedTensors) throws(AccrueError) -> NamedTensors {
        var list: [(String, Tensor)] = []
        for (name, more) in rest.tensors {
            let tensor = try old.tensor(name)
            if tensor.shape == more.shape {
                list.append((name, tensor))
            } else if tensor.shape.dropFirst().elementsEqual(more.shape.dropFirst()), tensor.rowCount < more.rowCount {
                list.append((name, try .concatenated([tensor, try more.rows(tensor.rowCount..<more.rowCount)])))
            } else {
                throw AccrueError(.invalidInput, while: "appending classes", "tensor '\(name)' has shape \(tensor.shape), which cannot become \(more.shape)")
            }
        }
        return NamedTensors(list)
    }
}

extension NamedTensors {
    /// With the tensors of another tree, of other names.
    func joined(with other: NamedTensors) -> NamedTensors { NamedTensors((tensors + other.tensors).map { ($0.name, $0.tensor) }) }
}
