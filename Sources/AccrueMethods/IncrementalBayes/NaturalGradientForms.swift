import AccrueBayes
import AccrueCore
import AccrueTensor

// The stored forms of what NaturalGradient keeps and sends.

extension NaturalGradient.Work {
    var stored: Safetensors {
        var trees = ["centre": centre, "precision": precision, "mean": mean, "momentum": momentum]
        trees["hessian"] = hessian
        trees["averageMean"] = averageMean
        trees["averageHessian"] = averageHessian
        return StoredTrees.stored(trees, ["steps": String(steps), "averaged": String(averaged)]).adding(memory.storedTensors, memory.storedMetadata)
    }
    init(_ stored: Safetensors) throws(AccrueError) {
        self.init(
            centre: try NamedTensors(stored, prefix: "centre."), precision: try NamedTensors(stored, prefix: "precision."),
            mean: try NamedTensors(stored, prefix: "mean."), hessian: try StoredTrees.optional("hessian.", stored),
            momentum: try NamedTensors(stored, prefix: "momentum."), steps: try StoredTrees.whole("steps", stored),
            averageMean: try StoredTrees.optional("averageMean.", stored), averageHessian: try StoredTrees.optional("averageHessian.", stored),
            averaged: try StoredTrees.whole("averaged", stored), memory: try StreamMemory(stored))
    }
}

extension NaturalGradient.Delta {
    var stored: Safetensors {
        var trees = ["mean": mean, "hessian": hessian, "momentum": momentum]
        trees["averageMean"] = averageMean
        trees["averageHessian"] = averageHessian
        return StoredTrees.stored(trees, ["steps": String(steps), "averaged": String(averaged)])
    }
    init(_ stored: Safetensors) throws(AccrueError) {
        self.init(
            mean: try NamedTensors(stored, prefix: "mean."), hessian: try NamedTensors(stored, prefix: "hessian."),
            momentum: try NamedTensors(stored, prefix: "momentum."), steps: try StoredTrees.whole("steps", stored),
            averageMean: try StoredTrees.optional("averageMean.", stored), averageHessian: try StoredTrees.optional("averageHessian.", stored),
            averaged: try StoredTrees.whole("averaged", stored))
    }
}
