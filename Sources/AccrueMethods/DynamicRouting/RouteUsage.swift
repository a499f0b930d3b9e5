import AccrueCore
import AccrueTensor

/// How often each choice was made: counts by class, stage, step and choice; those of several parts of the data add.
struct RouteUsage: Equatable, Sendable {
    /// Of each stage, [classes, steps, choices], row by row.
    private(set) var counts: [[Double]]
    private var sizes: [(steps: Int, choices: Int)]
    private(set) var classes: Int

    /// Of no rows.
    init(_ network: RoutedNetwork) {
        classes = network.classes
        sizes = network.isFixed ? [] : network.stages.map { ($0.steps, network.choices($0)) }
        counts = sizes.map { [Double](repeating: 0, count: network.classes * $0.steps * $0.choices) }
    }

    static func == (a: RouteUsage, b: RouteUsage) -> Bool { a.counts == b.counts && a.classes == b.classes }

    /// Rows more.
    /// - Parameters:
    ///   - chosen: stage by stage and step by step, a choice a row.
    ///   - labels: a class a row.
    mutating func add(_ chosen: [[[Int]]], classes labels: [Int]) {
        for (stage, steps) in chosen.enumerated() {
            for (step, choices) in steps.enumerated() {
                for (choice, label) in zip(choices, labels) { counts[stage][(label * sizes[stage].steps + step) * sizes[stage].choices + choice] += 1 }
            }
        }
    }

    /// Those of other rows.
    mutating func add(_ other: RouteUsage) {
        precondition(counts.map(\.count) == other.counts.map(\.count), "counts of routes of different networks")
        for stage in counts.indices { for index in counts[stage].indices { counts[stage][index] += other.counts[stage][index] } }
    }

    /// With classes appended that no row has yet.
    func with(classes more: Int) -> RouteUsage {
        var result = self
        result.classes = more
        for stage in counts.indices { result.counts[stage] += [Double](repeating: 0, count: (more - classes) * sizes[stage].steps * sizes[stage].choices) }
        return result
    }

    func fits(_ network: RoutedNetwork) -> Bool {
        let needed = RouteUsage(network)
        return classes == needed.classes && counts.map(\.count) == needed.counts.map(\.count)
    }

    /// Counts [classes][choices] of a step.
    func table(stage: Int, step: Int) -> [[Double]] {
        let (steps, choices) = sizes[stage]
        return (0..<classes).map { label in (0..<choices).map { counts[stage][(label * steps + step) * choices + $0] } }
    }

    /// The share of each choice in a stage, over all classes and steps; nil before the first row.
    func shares(stage: Int) -> [Double]? {
        guard counts.indices.contains(stage) else { return nil }
        let choices = sizes[stage].choices
        var sums = [Double](repeating: 0, count: choices)
        for (index, count) in counts[stage].enumerated() { sums[index % choices] += count }
        let total = sums.reduce(0, +)
        return total > 0 ? sums.map { $0 / total } : nil
    }

    /// Mutual information of choice and class (nats), stage by stage and step by step; nil before the first row.
    var information: [[Double]]? {
        guard let first = counts.first, first.contains(where: { $0 > 0 }) else { return nil }
        return sizes.indices.map { stage in (0..<sizes[stage].steps).map { RouteInformation.mutual(table(stage: stage, step: $0)) } }
    }
}

extension RouteUsage {
    /// usage.STAGE: [classes, steps, choices] F64.
    var storedTensors: [String: TensorBytes] {
        var result: [String: TensorBytes] = [:]
        for (index, (steps, choices)) in sizes.enumerated() { result["usage.stage\(index + 1)"] = TensorBytes(counts[index], shape: [classes, steps, choices]) }
        return result
    }

    init(_ stored: Safetensors) throws(AccrueError) {
        counts = []
        sizes = []
        classes = 0
        while let tensor = stored.tensors["usage.stage\(counts.count + 1)"] {
            guard tensor.shape.count == 3, tensor.shape.allSatisfy({ $0 > 0 }), counts.isEmpty || tensor.shape[0] == classes else {
                throw AccrueError(.corrupt, while: "reading counts of routes", "those of stage \(counts.count + 1) have shape \(tensor.shape)")
            }
            classes = tensor.shape[0]
            sizes.append((tensor.shape[1], tensor.shape[2]))
            counts.append(tensor.doubles())
        }
        if counts.isEmpty { classes = try StoredTrees.whole("classes", stored) }
    }
}
