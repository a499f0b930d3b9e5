import AccrueBayes
import AccrueCore
import AccrueTensor

/// One resolution of a routed network: a set of units, of which a controller chooses at each step.
struct RoutedStage: Equatable, Sendable {
    let name: String
    let units: ResidualUnits
    let steps: Int
    /// Nil for the first stage.
    let downsampling: DownsamplingBlock?
    /// Positions of its feature map.
    let positions: Int
    /// The number of its first step in the network.
    let firstStep: Int

    var channels: Int { units.channels }
}

/// A residual network whose stages hold sets of units instead of chains: a stem, stages that are each a fixed block of stride 2 (but the first) and `steps`
/// steps x ← max(0, x + Σ r_m F_m(x)), a pooling over positions and a dense head.
///
/// With routes that are fixed, unit t at step t, it is the ResNet of the same blocks. Whatever of ReSet's architecture is not in its abstract is this
/// project's.
struct RoutedNetwork: Equatable, Sendable {
    let stages: [RoutedStage]
    /// Channels of the input, [channels, height, width].
    let inputShape: [Int]
    let classes: Int
    let controller: RouteController
    /// A further choice, the last: nothing is added.
    let skip: Bool
    /// Unit t at step t, and no controller.
    let isFixed: Bool

    /// - Throws: `invalidInput` when the input is no picture whose sides can be halved for each stage but the first.
    init(_ model: DynamicRouting.Model, inputShape: [Int], classes: Int, isFixed: Bool) throws(AccrueError) {
        let image = inputShape.count == 2 ? [1] + inputShape : inputShape, factor = 1 << (model.channels.count - 1)
        guard image.count == 3, image[1] % factor == 0, image[2] % factor == 0 else {
            throw AccrueError(
                .invalidInput, while: "building a routed network",
                "the input has shape \(inputShape); [channels, height, width] with sides that \(factor) divides are needed: each stage but the first halves them",
                hint: "use pictures of such a size, or fewer stages in settings.model")
        }
        var stages: [RoutedStage] = [], step = 0
        for (index, channels) in model.channels.enumerated() {
            let name = "stage\(index + 1)"
            stages.append(
                RoutedStage(
                    name: name, units: ResidualUnits("\(name).units", count: model.units[index], channels: channels, ownSteps: isFixed || model.affine == .unit ? nil : model.steps[index]),
                    steps: model.steps[index],
                    downsampling: index == 0 ? nil : DownsamplingBlock("\(name).down", inputs: model.channels[index - 1], outputs: channels),
                    positions: image[1] * image[2] >> (2 * index), firstStep: step))
            step += model.steps[index]
        }
        self.stages = stages
        self.inputShape = image
        self.classes = classes
        self.isFixed = isFixed
        controller = model.controller
        skip = model.skip && !isFixed
    }

    /// What a step of a stage can choose of: its units, and to skip.
    func choices(_ stage: RoutedStage) -> Int { stage.units.count + (skip ? 1 : 0) }

    /// First weights: He et al.'s normal for convolutions; the last norm of a unit starts at 1/√steps, so that repeated use does not make features grow.
    func initialWeights(key: RandomKey) throws(AccrueError) -> NamedTensors {
        let first = stages[0].channels, last = stages[stages.count - 1].channels
        var list: [(String, Tensor)] = [
            ("stem.conv.weight", try key.folding("stem").normal([first, inputShape[0], 3, 3]) * (2 / Double(9 * inputShape[0])).squareRoot()),
            ("stem.norm.scale", try .ones([first])), ("stem.norm.shift", try .zeros([first])),
            ("head.weight", try key.folding("head").normal([classes, last]) * (1 / Double(last)).squareRoot()), ("head.bias", try .zeros([classes])),
        ]
        for stage in stages {
            if let block = stage.downsampling { list += try block.initialWeights(key: key) }
            list += try stage.units.initialWeights(lastScale: 1 / Double(stage.steps).squareRoot(), key: key)
        }
        if !isFixed { list += try controller.initialWeights(stages, choices: choices, key: key.folding("controller")) }
        return NamedTensors(list)
    }

    /// All batch norms by the names of their statistics.
    var norms: [Layer.BatchNorm] {
        var list = [Layer.BatchNorm(name: "stem.norm", features: stages[0].channels)]
        for stage in stages {
            if let block = stage.downsampling { list += [1, 2].map { Layer.BatchNorm(name: "\(block.name).norm\($0)", features: block.outputs) } }
            let width = stage.channels * (isFixed ? 1 : stage.units.count)
            for step in 0..<stage.steps { list += stage.units.statistics(step: step).map { Layer.BatchNorm(name: $0, features: width) } }
        }
        return list
    }

    /// A pass in training mode: batch norms have the batch's own statistics, and all units of a step are computed for all rows.
    /// - Parameter x: [rows] + `inputShape`.
    /// - Returns: logits [rows, classes], and the shares of each step, stage by stage: [rows, choices] (none for fixed routes).
    func trained(
        _ x: Tensor, _ weights: NamedTensors, rule: RouteRule, temperature: Double, norms: inout ResidualNorms
    ) throws(AccrueError) -> (logits: Tensor, shares: [[Tensor]]) {
        var x = try norms.relu(
            try x.channelsLast().convolved(try weights.tensor("stem.conv.weight"), nil, padding: 1), "stem.norm", statistics: "stem.norm")
        var memory = try controller.memory(rows: x.rowCount, dtype: x.dtype), shares: [[Tensor]] = []
        for stage in stages {
            if let block = stage.downsampling { x = try block(x, weights, &norms) }
            var here: [Tensor] = []
            for step in 0..<stage.steps {
                if isFixed {
                    x = try stage.units.applied(step, to: x, step: step, weights, &norms)
                    continue
                }
                if case .ordered = rule {
                    // What the controller is taught leaves the features alone.
                    here.append(try controller(try x.detached(), &memory, stage: stage, weights).softmax(1))
                    x = try stage.units.applied(step % stage.units.count, to: x, step: step, weights, &norms)
                    continue
                }
                let logits = try controller(x, &memory, stage: stage, weights)
                let chosen = try rule.shares(logits, temperature: temperature, place: stage.firstStep + step)
                here.append(chosen)
                x = try stage.units.mixed(x, shares: skip ? try chosen.narrowed(1, 0..<stage.units.count) : chosen, step: step, weights, &norms)
            }
            shares.append(here)
        }
        return (try head(x, weights), shares)
    }

    /// Class logits from the last feature map.
    func head(_ x: Tensor, _ weights: NamedTensors) throws(AccrueError) -> Tensor {
        try x.mean(2, 3).linear(try weights.tensor("head.weight"), try weights.tensor("head.bias"))
    }

    // MARK: cost

    /// Multiply-adds of one picture: of what all pictures go through, and of one unit of each stage; pooling, norms and sums not counted.
    var fixedMultiplyAdds: Int {
        var sum = 9 * inputShape[0] * stages[0].channels * stages[0].positions + classes * stages[stages.count - 1].channels
        for stage in stages {
            sum += stage.downsampling?.multiplyAdds(positions: stage.positions) ?? 0
            if !isFixed { sum += stage.steps * controller.multiplyAdds(channels: stage.channels, choices: choices(stage)) }
        }
        return sum
    }

    /// With one unit a step, but those steps that skip: how many do, by stage, on average.
    func multiplyAdds(skipped: [Double]? = nil) -> Double {
        var sum = Double(fixedMultiplyAdds)
        for (index, stage) in stages.enumerated() {
            sum += (Double(stage.steps) - (skipped?[index] ?? 0)) * Double(stage.units.multiplyAdds(positions: stage.positions))
        }
        return sum
    }

    /// With all units of each step.
    var multiplyAddsOfAll: Double {
        Double(fixedMultiplyAdds + stages.reduce(0) { $0 + $1.steps * (isFixed ? 1 : $1.units.count) * $1.units.multiplyAdds(positions: $1.positions) })
    }
}
