public import AccrueBayes
public import AccrueCore
import AccrueTensor
import Foundation

/// Dynamic routing over sets of residual units (ReSet): each stage of a residual network holds a set of M units, and a recurrent controller that looks at the
/// feature map chooses, at each of T steps and for each picture, which unit is applied:
///
///     x ← max(0, x + Σ_m r_m F_m(x)),  r from softmax(l / T) of the controller's logits l
///
/// Trained by back-propagation through relaxed choices; served with the likeliest unit of each step, and only that is computed.
///
/// Source: ReSet, ACML 2018 (PMLR 95:422-437, arXiv 1811.04380), of which only the abstract was to be had: that units of a learned set are chosen for each
/// input one after the other by a recurrent route, on a ResNet. Everything else is this project's (`RoutedNetwork`, `RouteController`, `RouteRule`,
/// `RoutePenalties`): which relaxation the paper used, whether it has penalties, and its numbers are not known. Its kin with public code: SkipNet (Wang et al.
/// 2018) and ConvNet-AIG (Veit & Belongie 2018). Choices by reinforcement are not built.
///
/// A batch norm of a unit has one scale and shift, and statistics for each step at which the unit is used. They are never averaged but collected anew, with the
/// merged weights, over the round's rows; as in training, of all rows of a batch, also those that chose another unit; once on the path of soft and once on
/// that of hard routes.
///
/// Exact in the merge: those statistics (Chan) and usage counts, which add. Not exact: weights and Adam's moments are averaged by rows (local Adam), which
/// keeps units in place because all shards start from the same weights; each shard balances the routes of its own batches, which is stricter than balancing
/// all; and a batch's statistics are its own. Adam's moments end with the round: the next one warms up anew. There is no distribution over weights: the
/// epistemic part of predictions is zero but for drawn routes (`evaluation: gumbel`), which know the routes' doubt alone.
public struct DynamicRouting: LearningMethod {
    public static let name = "DynamicRouting"

    /// What is served.
    public struct State: StoredValue {
        var weights: NamedTensors
        /// NAME.mean and NAME.variance of each norm, a unit at a step each its own, on the path of hard routes (or fixed ones).
        var hard: NamedTensors
        /// The same on the path of soft routes; empty with fixed ones.
        var soft: NamedTensors
        /// The last round's rows, as the statistics pass routed them.
        var usage: RouteUsage
        /// Steps of training so far.
        var steps: Int
    }

    /// A round in progress.
    public struct Work: StoredValue {
        var training: AdamTraining
        /// Before the round.
        var steps: Int
    }

    public struct Delta: StoredValue {
        var training: AdamTraining
    }

    /// What one shard's rows say of merged weights.
    public struct Collected: StoredValue {
        var hard: BatchFlow
        var soft: BatchFlow
        var usage: RouteUsage
    }

    let settings: Settings
    let schema: Schema
    let network: RoutedNetwork
    let design: Design

    /// - Throws: `invalidInput` when the settings or the schema do not fit.
    public init(settings: Settings, schema: Schema) throws(AccrueError) {
        self.settings = settings
        self.schema = schema
        network = try RoutedNetwork(
            settings.model, inputShape: Design.inputShape(schema), classes: settings.likelihood.outputs, isFixed: settings.routes == .fixed)
        design = try Design(schema: schema, inputShape: network.inputShape, likelihood: settings.likelihood)
    }

    /// - Throws: `invalidInput` when the settings or the schema do not fit.
    public static func make(_ value: JSONValue, _ schema: Schema) throws(AccrueError) -> any OpaqueMethod {
        ErasedMethod(try DynamicRouting(settings: try Settings(value, schema: schema), schema: schema))
    }

    public var phases: MethodPhases { MethodPhases(scores: true, statistics: true) }

    public func initialState(key: RandomKey) throws(AccrueError) -> State {
        let statistics = try Network.initialStatistics(of: network.norms)
        return State(
            weights: try network.initialWeights(key: key), hard: statistics, soft: network.isFixed ? NamedTensors() : statistics, usage: RouteUsage(network), steps: 0)
    }

    /// A posterior of this method is taken as it is; where this pipeline's stages have more units than its, units are appended that change nothing yet
    /// (`appending units`). A bare network has the weights of `describe`.
    public func adopt(_ imported: Safetensors, into state: State, key: RandomKey) throws(AccrueError) -> State {
        switch WeightsFromOutside.method(of: imported) {
        case Self.name?:
            let old = try State(imported)
            let grown = try NewUnits(network).appended(to: old, fresh: state)
            try check(grown, as: .invalidInput)
            return grown
        case let other?: throw WeightsFromOutside.strange(other, needed: Self.name)
        case nil:
            var result = state
            result.weights = try WeightsFromOutside.weights(imported, like: state.weights)
            return result
        }
    }

    /// Weights of new classes are zero, and no row of them has been routed.
    public func adapt(_ state: State, from old: Schema, key: RandomKey) throws(AccrueError) -> State {
        var result = state
        result.weights = try WeightsFromOutside.appended(state.weights, try network.initialWeights(key: key).zeros())
        result.usage = state.usage.with(classes: network.classes)
        return result
    }

    public func begin(_ state: State, round: Round, key: RandomKey) throws(AccrueError) -> Work {
        _ = try plan(round)
        return Work(training: try AdamTraining(from: state.weights), steps: state.steps)
    }

    public func fit(_ work: Work, to shard: [Rows], round: Round, key: RandomKey) throws(AccrueError) -> (delta: Delta, report: FitReport) {
        let plan = try plan(round)
        var number = plan.epochs(of: round.sweep).lowerBound * plan.stepsPerEpoch
        let (training, report) = try work.training.fitted(
            loop(plan), pull: settings.weightDecay > 0 ? (try work.training.weights.zeros(), try decay(work.training.weights)) : nil,
            rows: try design.rows(shard), round: round, key: key
        ) { (weights, batch, stepKey) throws(AccrueError) in
            let pictures = try settings.augment(try batch.inputs.reshaped([batch.inputs.rowCount] + network.inputShape), key: stepKey)
            let temperature = settings.temperature.at(number, of: plan.steps, after: settings.order, isFirst: work.steps == 0)
            let rule = rule(at: number, of: plan.steps, isFirst: work.steps == 0, key: stepKey)
            number += 1
            return try valueAndGradient(at: weights) { (weights) throws(AccrueError) in
                var norms = ResidualNorms(weights)
                let (logits, shares) = try network.trained(pictures, weights, rule: rule, temperature: temperature, norms: &norms)
                let loss = try settings.likelihood.loss(logits, batch.targets, weights: weights)
                if case .ordered = rule { return try loss + (try RoutePenalties.order(shares, units: settings.model.units, doubt: settings.order.doubt)) }
                return try settings.penalties(shares, skip: network.skip).map { (penalty) throws(AccrueError) in try loss + penalty } ?? loss
            }
        }
        return (Delta(training: training), report)
    }

    public func merge(_ deltas: [Weighted<Delta>], into work: Work, round: Round, key: RandomKey) throws(AccrueError) -> Work {
        Work(training: try work.training.merged(deltas.map { Weighted($0.value.training, rows: $0.rows) }), steps: work.steps)
    }

    public func statistics(of work: Work, on shard: [Rows], round: Round, key: RandomKey) throws(AccrueError) -> Collected? {
        let rows = try design.rows(shard), weights = work.training.result
        var hard = BatchFlow(), soft = BatchFlow(), usage = RouteUsage(network)
        // In random order: a stream may be sorted by class. What is left over of a shard is no whole batch, and would have other statistics.
        let order = key.folding("order").permutation(rows.count)
        for start in stride(from: 0, through: rows.count - settings.batch, by: settings.batch) {
            if round.shouldStop() { throw AccrueError(.unavailable, while: "collecting batch statistics", "the work was stopped") }
            let batch = try rows.batch(order[start..<start + settings.batch])
            var norms = ResidualNorms(weights, recording: true)
            let (_, shares) = try network.trained(batch.inputs, weights, rule: hardest, temperature: servedTemperature, norms: &norms)
            hard.add(norms.flows)
            guard !network.isFixed else { continue }
            var chosen: [[[Int]]] = []
            for stage in shares { chosen.append(try stage.map { (share) throws(AccrueError) in try share.argmax(1).doubles().map { Int($0) } }) }
            usage.add(chosen, classes: try batch.targets.doubles().map { Int($0) })
            norms = ResidualNorms(weights, recording: true)
            _ = try network.trained(batch.inputs, weights, rule: softest, temperature: servedTemperature, norms: &norms)
            soft.add(norms.flows)
        }
        return Collected(hard: hard, soft: soft, usage: usage)
    }

    public func score(_ state: State, on rows: Rows, key: RandomKey) throws(AccrueError) -> Score? {
        try posterior(state, settings.evaluation, description: .null).score(rows, draws: settings.evaluation == .gumbel ? nil : 1, key: key)
    }

    public func finish(_ work: Work, round: Round, moments: [Collected], scores: Score?, key: RandomKey) throws(AccrueError) -> State {
        var usage = RouteUsage(network)
        for part in moments { usage.add(part.usage) }
        return State(
            weights: work.training.result, hard: try BatchFlow.pooled(moments.map(\.hard), norms: network.norms),
            soft: network.isFixed ? NamedTensors() : try BatchFlow.pooled(moments.map(\.soft), norms: network.norms), usage: usage,
            steps: work.steps + (try plan(round)).steps)
    }

    /// Names stages in which one unit is nearly always chosen, and units that nearly never are.
    public func remarks(on state: State) throws(AccrueError) -> [Remark] {
        network.stages.enumerated().flatMap { index, stage -> [Remark] in
            guard !network.isFixed, network.choices(stage) > 1, let shares = state.usage.shares(stage: index) else { return [] }
            if let busiest = shares.firstIndex(where: { $0 > 0.9 }) {
                return [Remark(kind: .collapse, text: "choice \(busiest) of '\(stage.name)' takes \(Int((100 * shares[busiest]).rounded())) % of its steps: raise settings.penalties.balance or settings.temperature")]
            }
            let dead = shares.indices.filter { shares[$0] < 0.1 / Double(shares.count) }
            return dead.isEmpty ? [] : [Remark(kind: .collapse, text: "choices \(dead.map(String.init).joined(separator: ", ")) of '\(stage.name)' are hardly ever made")]
        }
    }

    public func load(_ state: State) throws(AccrueError) -> any LoadedState {
        try check(state, as: .corrupt)
        let description = try describe(state)
        var posteriors: [Evaluation: NetworkPosterior] = [:]
        for evaluation in Evaluation.allCases where !network.isFixed || evaluation == .hard { posteriors[evaluation] = try posterior(state, evaluation, description: description) }
        return LoadedDynamicRouting(
            schema: schema, design: design, network: network, standard: settings.evaluation, posteriors: posteriors,
            hard: try RoutedPass(network, state.weights, state.hard), description: description)
    }

    // MARK: mathematics

    /// - Throws: `invalidInput` when a shard of the round has less than one batch, or sweeps have no epochs.
    private func plan(_ round: Round) throws(AccrueError) -> TrainingPlan {
        let rows = round.roundRows / round.shards
        guard rows >= settings.batch else {
            throw AccrueError(
                .invalidInput, while: "planning a round", "a shard has \(rows) rows; settings.batch, rows whose statistics are taken together, is \(settings.batch)",
                hint: "push more rows a chunk, raise round.chunks, or lower shards or settings.batch")
        }
        return try TrainingPlan(epochs: settings.epochs, rowsEach: settings.batch, round: round)
    }

    /// One cycle: the rate rises in a straight line, and falls in one.
    private func loop(_ plan: TrainingPlan) -> TrainingLoop {
        let rising = Int((Double(plan.steps) * settings.warmUp).rounded())
        let falling = Schedule.linear(from: settings.learningRate, to: settings.learningRate * settings.finalRate, steps: plan.steps - rising)
        let rise = Schedule.linear(from: settings.learningRate / Double(rising + 1), to: settings.learningRate, steps: rising + 1)
        return TrainingLoop(
            plan: plan, schedule: .sequence(rise, until: Double(rising), then: falling),
            averageFrom: plan.tailStart(settings.averageTail))
    }

    /// What the gradient gets of each weight: nothing for norms and biases.
    private func decay(_ weights: NamedTensors) throws(AccrueError) -> NamedTensors {
        NamedTensors(
            try weights.tensors.map { (name, tensor) throws(AccrueError) in (name, try .full(tensor.shape, name.hasSuffix(".weight") ? settings.weightDecay : 0)) })
    }

    /// The rule of a step of training.
    private func rule(at step: Int, of steps: Int, isFirst: Bool, key: RandomKey) -> RouteRule {
        if settings.routes == .fixed { return .fixed }
        if settings.evaluation != .soft, Double(step) >= (1 - settings.temperature.hard) * Double(steps) { return .straightThrough(nil) }
        if isFirst, Double(step) < settings.order.share * Double(steps) { return .ordered }
        if isFirst, Double(step) < (settings.order.share + settings.temperature.warmUp) * Double(steps) { return .soft }
        return switch settings.routes {
        case .soft: .soft
        case .gumbel: .gumbel(key)
        case .straightThrough: .straightThrough(key)
        case .topK: .topK(settings.topK)
        case .fixed: .fixed
        }
    }

    private var hardest: RouteRule { network.isFixed ? .fixed : .hard }
    /// How soft routes are served: without noise.
    private var softest: RouteRule { settings.routes == .topK ? .topK(settings.topK) : .soft }
    private var servedTemperature: Double { settings.temperature.to }

    private func check(_ state: State, as code: AccrueError.Code) throws(AccrueError) {
        let operation = "loading a posterior", statistics = try Network.initialStatistics(of: network.norms)
        do throws(AccrueError) {
            try state.weights.check(against: try network.initialWeights(key: RandomKey(seed: 0)), while: operation)
            try state.hard.check(against: statistics, while: operation)
            try state.soft.check(against: network.isFixed ? NamedTensors() : statistics, while: operation)
            guard state.usage.fits(network) else { throw AccrueError(.corrupt, while: operation, "its counts of routes are of another network", hint: "these bytes belong to other settings") }
        } catch { throw AccrueError(code, while: error.operation, error.problem, hint: error.hint) }
    }

    private func posterior(_ state: State, _ evaluation: Evaluation, description: JSONValue) throws(AccrueError) -> NetworkPosterior {
        let isSoft = evaluation == .soft && !network.isFixed, temperature = isSoft ? servedTemperature : 1
        let pass = try RoutedPass(network, state.weights, isSoft ? state.soft : state.hard)
        func member(_ way: RoutedPass.Way) -> NetworkMember {
            NetworkMember(state.weights) { (inputs) throws(AccrueError) in try pass(inputs, way, temperature: temperature).logits }
        }
        let shape = Network(layers: [], inputShape: network.inputShape)
        func fixed(_ way: RoutedPass.Way) -> NetworkPosterior {
            NetworkPosterior(
                schema: schema, design: design, network: shape, likelihood: settings.likelihood, description: description, members: [member(way)])
        }
        switch evaluation {
        case .hard: return fixed(.grouped(hardest))
        case .masked: return fixed(.mixed(hardest))
        case .soft: return fixed(.mixed(network.isFixed ? .fixed : softest))
        case .gumbel:
            let weights = state.weights
            return NetworkPosterior(schema: schema, design: design, network: shape, likelihood: settings.likelihood, description: description) {
                (key) throws(AccrueError) in
                NetworkMember(weights) { (inputs) throws(AccrueError) in try pass(inputs, .grouped(.drawn(key)), temperature: temperature).logits }
            }
        }
    }
}
