import AccrueBayes
import AccrueCore
import AccrueTensor

// The stored forms of what OnlineLaplace keeps and sends.

extension OnlineLaplace.Work {
    var stored: Safetensors {
        var trees = ["mean": mean, "precision": precision, "coupling": coupling, "weights": weights, "first": first, "second": second]
        trees["average"] = average
        return StoredTrees.stored(trees, ["steps": String(steps), "averaged": String(averaged)])
            .adding(memory.storedTensors, memory.storedMetadata).adding(offered.storedTensors("offered"))
    }
    init(_ stored: Safetensors) throws(AccrueError) {
        let memory = try StreamMemory(stored)
        self.init(
            mean: try NamedTensors(stored, prefix: "mean."), precision: try NamedTensors(stored, prefix: "precision."),
            coupling: try NamedTensors(stored, prefix: "coupling."), weights: try NamedTensors(stored, prefix: "weights."), first: try NamedTensors(stored, prefix: "first."),
            second: try NamedTensors(stored, prefix: "second."), steps: try StoredTrees.whole("steps", stored),
            average: try StoredTrees.optional("average.", stored), averaged: try StoredTrees.whole("averaged", stored), memory: memory,
            offered: try Reservoir(stored, "offered", capacity: memory.reservoir.capacity))
    }
}

extension OnlineLaplace.Delta {
    var stored: Safetensors {
        var trees = ["weights": weights, "first": first, "second": second]
        trees["average"] = average
        return StoredTrees.stored(trees, ["steps": String(steps), "averaged": String(averaged), "capacity": String(offered.capacity)])
            .adding(offered.storedTensors("offered"))
    }
    init(_ stored: Safetensors) throws(AccrueError) {
        self.init(
            weights: try NamedTensors(stored, prefix: "weights."), first: try NamedTensors(stored, prefix: "first."),
            second: try NamedTensors(stored, prefix: "second."), steps: try StoredTrees.whole("steps", stored),
            average: try StoredTrees.optional("average.", stored), averaged: try StoredTrees.whole("averaged", stored),
            offered: try Reservoir(stored, "offered", capacity: try StoredTrees.whole("capacity", stored)))
    }
}

extension OnlineLaplace.Fisher {
    var stored: Safetensors {
        let counts = labelCounts.isEmpty ? [:] : ["labelCounts": TensorBytes(labelCounts, shape: [labelCounts.count])]
        return StoredTrees.stored(["fisher": sums, "coupling": coupling]).adding(counts)
    }
    init(_ stored: Safetensors) throws(AccrueError) {
        self.init(
            sums: try NamedTensors(stored, prefix: "fisher."), coupling: try NamedTensors(stored, prefix: "coupling."),
            labelCounts: stored.tensors["labelCounts"]?.doubles() ?? [])
    }
}
