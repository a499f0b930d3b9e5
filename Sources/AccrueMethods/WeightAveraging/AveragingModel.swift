import AccrueBayes
import AccrueCore
import AccrueTensor

/// What all posteriors of weight averaging share: the network and its first weights, SGD over a round, batch statistics for weights that SGD did not make.
struct AveragingModel: Sendable {
    let settings: WeightAveraging.Settings
    let schema: Schema
    let network: Network
    let design: Design

    /// - Throws: `invalidInput` when the settings or the schema do not fit.
    init(settings: WeightAveraging.Settings, schema: Schema) throws(AccrueError) {
        self.settings = settings
        self.schema = schema
        network = try settings.model.network(inputShape: Design.inputShape(schema), outputs: settings.likelihood.outputs)
        design = try Design(schema: schema, network: network, likelihood: settings.likelihood)
    }

    /// The last pass is for batch statistics alone.
    var phases: MethodPhases { MethodPhases(scores: true, statistics: !network.batchNorms.isEmpty) }

    /// Random first weights, and the likelihood's own.
    func initialWeights(key: RandomKey) throws(AccrueError) -> NamedTensors {
        try network.initialWeights(with: settings.likelihood, key: key)
    }

    func plan(_ round: Round) throws(AccrueError) -> TrainingPlan {
        try TrainingPlan(epochs: settings.epochs, batch: settings.batch, round: round)
    }

    /// The loop of a round: an approach, in whose first half the rate is `learningRate`, and then the steps among which weights are collected.
    func loop(_ plan: TrainingPlan) -> TrainingLoop {
        let from = min(plan.steps - 1, Int(Double(plan.steps) * settings.averageFrom))
        // The rate has fallen when nine tenths of the way to the first collected weights are done.
        func approach(_ last: Double) -> Schedule { .averaging(initial: settings.learningRate, averaging: last, reference: Double(max(1, from))) }
        guard settings.posterior == .fge else {
            return TrainingLoop(
                plan: plan, schedule: approach(settings.averagingRate), averageFrom: from, averageEvery: min(settings.collectEvery, plan.steps - from))
        }
        let cycle = settings.cycle.epochs * plan.stepsPerEpoch
        let triangles = Schedule.triangular(high: settings.cycle.high, low: settings.cycle.low, cycle: Double(cycle))
        // Half a cycle earlier, so that weights enter after the last falling step of each cycle.
        return TrainingLoop(
            plan: plan, schedule: .sequence(approach(settings.cycle.high), until: Double(from), then: triangles), averageFrom: from - cycle / 2,
            averageEvery: cycle)
    }

    /// SGD over one sweep of a shard.
    /// - Parameter collect: given the weights that are to be collected; nil: they are averaged.
    func trained(
        _ weights: NamedTensors, on shard: [Rows], round: Round, key: RandomKey, collect: ((NamedTensors) throws(AccrueError) -> Void)? = nil
    ) throws(AccrueError) -> TrainingLoop.Outcome<MomentumDescent<NamedTensors>> {
        // Momentum starts at zero after every merge: the merged weights have no past of their own.
        let descent = try MomentumDescent(for: weights, momentum: settings.momentum, weightDecay: settings.weightDecay)
        return try loop(try plan(round)).run(weights, descent, rows: try design.rows(shard), round: round, key: key, collect: collect) {
            (weights, batch, _) throws(AccrueError) in
            try valueAndGradient(at: weights) { (weights) throws(AccrueError) in
                var pass = PlainPass(weights)
                return try settings.likelihood.loss(try network.apply(batch.inputs, &pass), batch.targets, weights: weights)
            }
        }
    }

    /// What every posterior says of itself, and more.
    func description(parameters: Int, _ more: [String: JSONValue]) -> JSONValue {
        let common: [String: JSONValue] = [
            "method": .string(WeightAveraging.name), "model": .string(settings.model.kind.rawValue), "parameters": .integer(parameters),
        ]
        return .object(common.merging(more) { $1 })
    }

    /// Euclidean distance of two points in weight space.
    func distance(_ a: NamedTensors, _ b: NamedTensors) throws(AccrueError) -> Double {
        var square = 0.0
        for (_, tensor) in try a.zip(b, transform: { (a, b) throws(AccrueError) in try (a - b[0]).squared().sum() }).tensors { square += try tensor.item() }
        return square.squareRoot()
    }
}
