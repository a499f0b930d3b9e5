import AccrueBayes
import AccrueCore
import AccrueTensor

// The stored forms of what OnlineLaplace keeps and sends.

extension OnlineLaplace.Work {
    var stored: Safetensors {
        let trees = StoredTrees.stored(["mean": mean, "precision": precision, "coupling": coupling])
        return training.stored.adding(trees.tensors).adding(memory.storedTensors, memory.storedMetadata).adding(offered.storedTensors("offered"))
    }
    init(_ stored: Safetensors) throws(AccrueError) {
        let memory = try StreamMemory(stored)
        self.init(
            mean: try NamedTensors(stored, prefix: "mean."), precision: try NamedTensors(stored, prefix: "precision."),
            coupling: try NamedTensors(stored, prefix: "coupling."), training: try AdamTraining(stored), memory: memory,
            offered: try Reservoir(stored, "offered", capacity: memory.reservoir.capacity))
    }
}

extension OnlineLaplace.Delta {
    var stored: Safetensors { training.stored.adding(offered.storedTensors("offered"), ["capacity": String(offered.capacity)]) }
    init(_ stored: Safetensors) throws(AccrueError) {
        self.init(training: try AdamTraining(stored), offered: try Reservoir(stored, "offered", capacity: try StoredTrees.whole("capacity", stored)))
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
