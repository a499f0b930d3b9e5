public import AccrueBayes
public import AccrueCore
import AccrueTensor

/// Count, mean and centred squares of what flows into each batch norm, of one network or several, over all rows of a shard's batches: pooled exactly.
public struct BatchFlow: StoredValue {
    /// By layer, under the prefix of its network.
    private var layers: [String: Moments] = [:]

    /// Of no rows.
    init() {}

    /// One batch more.
    mutating func add(_ flows: [String: Moments], prefix: String = "") {
        for (name, flow) in flows { layers[prefix + name, default: Moments(dimension: flow.mean.count)].merge(flow) }
    }

    /// Those of a shard's whole batches, in the order of its rows.
    /// - Parameters:
    ///   - batch: rows of a step, over all shards.
    ///   - flows: what a training-mode pass of a batch has, given its inputs and its first row.
    /// - Throws: `unavailable` when the work is to stop; what `flows` throws.
    mutating func add(
        _ rows: DesignRows, batch: Int, round: Round, prefix: String = "", flows: (Tensor, Int) throws(AccrueError) -> [String: Moments]
    ) throws(AccrueError) {
        // The same batch size on every shard; a short last batch would have other statistics and is left out.
        let size = min(batch, round.roundRows / round.shards)
        for start in stride(from: 0, through: rows.count - size, by: size) {
            if round.shouldStop() { throw AccrueError(.unavailable, while: "recomputing batch statistics", "the work was stopped") }
            add(try flows(try rows.inputs(start..<start + size), start), prefix: prefix)
        }
    }

    /// NAME.mean and NAME.variance of every batch norm, over the rows of all parts.
    /// - Throws: `engine` when a batch norm has none.
    static func pooled(_ parts: [BatchFlow], network: Network, prefix: String = "") throws(AccrueError) -> NamedTensors {
        try pooled(parts, norms: network.batchNorms, prefix: prefix)
    }

    /// The same of these batch norms.
    static func pooled(_ parts: [BatchFlow], norms: [Layer.BatchNorm], prefix: String = "") throws(AccrueError) -> NamedTensors {
        var list: [(String, Tensor)] = []
        for layer in norms {
            var pooled = Moments(dimension: layer.features)
            for part in parts { if let here = part.layers[prefix + layer.name] { pooled.merge(here) } }
            guard pooled.count > 0 else { throw AccrueError(.engine, while: "making a version", "no batch statistics of '\(layer.name)' were computed") }
            list.append(("\(layer.name).mean", try Tensor(pooled.mean.map(Float.init), shape: [layer.features])))
            list.append(("\(layer.name).variance", try Tensor(pooled.variances.map(Float.init), shape: [layer.features])))
        }
        return NamedTensors(list)
    }
}

extension BatchFlow {
    public var stored: Safetensors {
        var tensors: [String: TensorBytes] = [:]
        for (name, moments) in layers {
            let width = moments.mean.count
            tensors[name] = TensorBytes([moments.count] + moments.mean + moments.centredSquares, shape: [1 + 2 * width])
        }
        return Safetensors(tensors: tensors)
    }
    public init(_ stored: Safetensors) throws(AccrueError) {
        for name in stored.tensors.keys.sorted() {
            let numbers = try stored.doubles(name, while: "reading batch statistics")
            guard numbers.count % 2 == 1 else { throw AccrueError(.corrupt, while: "reading batch statistics", "'\(name)' has \(numbers.count) numbers") }
            let width = numbers.count / 2
            layers[name] = Moments(count: numbers[0], mean: Array(numbers[1...width]), centredSquares: Array(numbers[(width + 1)...]))
        }
    }
}
