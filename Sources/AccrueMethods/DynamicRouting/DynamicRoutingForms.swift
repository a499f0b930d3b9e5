import AccrueBayes
public import AccrueCore
import AccrueTensor

// The stored forms of what DynamicRouting keeps and sends.

extension DynamicRouting.State {
    public var stored: Safetensors {
        StoredTrees.stored(
            ["weights": weights, "hard": hard, "soft": soft], ["method": DynamicRouting.name, "steps": String(steps), "classes": String(usage.classes)]
        ).adding(usage.storedTensors).saying(roles: ["weights": .mean, "hard": .batchStatistic, "soft": .batchStatistic, "usage": .usage])
    }
    public init(_ stored: Safetensors) throws(AccrueError) {
        self.init(
            weights: try NamedTensors(stored, prefix: "weights."), hard: try NamedTensors(stored, prefix: "hard."), soft: try NamedTensors(stored, prefix: "soft."),
            usage: try RouteUsage(stored), steps: try StoredTrees.whole("steps", stored))
    }
}

extension DynamicRouting.Work {
    public var stored: Safetensors { training.stored.adding([:], ["before": String(steps)]) }
    public init(_ stored: Safetensors) throws(AccrueError) { self.init(training: try AdamTraining(stored), steps: try StoredTrees.whole("before", stored)) }
}

extension DynamicRouting.Delta {
    public var stored: Safetensors { training.stored }
    public init(_ stored: Safetensors) throws(AccrueError) { self.init(training: try AdamTraining(stored)) }
}

extension DynamicRouting.Collected {
    public var stored: Safetensors {
        var tensors = usage.storedTensors
        for (prefix, flow) in [("hard", hard), ("soft", soft)] { for (name, tensor) in flow.stored.tensors { tensors["\(prefix).\(name)"] = tensor } }
        return Safetensors(tensors: tensors, metadata: ["classes": String(usage.classes)])
    }
    public init(_ stored: Safetensors) throws(AccrueError) {
        func flow(_ prefix: String) throws(AccrueError) -> BatchFlow {
            var part: [String: TensorBytes] = [:]
            for (name, tensor) in stored.tensors where name.hasPrefix("\(prefix).") { part[String(name.dropFirst(prefix.count + 1))] = tensor }
            return try BatchFlow(Safetensors(tensors: part))
        }
        self.init(hard: try flow("hard"), soft: try flow("soft"), usage: try RouteUsage(stored))
    }
}

extension ParameterRole {
    /// How often each choice was made, by class.
    fileprivate static let usage = ParameterRole("counts of choices")
}
