public import AccrueCore
public import AccrueTensor

/// The steps of a round, the same on every shard: epochs are shared out over the sweeps, and every shard takes the same number of steps.
public struct TrainingPlan: Equatable, Sendable {
    public let stepsPerEpoch: Int
    public let epochs: Int
    public let sweeps: Int
    /// Rows of each step on a shard, where all must have equally many; nil: a shard's rows are shared out over the steps.
    public let rowsEach: Int?

    /// Steps of equally many rows on every shard; what is left over of an epoch's order is left out.
    /// - Throws: `invalidInput` when there are more sweeps than epochs.
    public init(epochs: Int, rowsEach: Int, round: Round) throws(AccrueError) {
        try self.init(epochs: epochs, stepsPerEpoch: max(1, round.roundRows / round.shards / rowsEach), rowsEach: rowsEach, round: round)
    }

    /// - Parameters:
    ///   - epochs: passes over the round's rows, over all its sweeps; nil: 5, or as many as the sweeps and 200 steps need.
    ///   - batch: rows of a step, over all shards.
    /// - Throws: `invalidInput` when there are more sweeps than epochs.
    public init(epochs: Int?, batch: Int, round: Round) throws(AccrueError) {
        // A shard has at least roundRows / shards rows, so no step is empty.
        let steps = max(1, min(round.roundRows / batch, round.roundRows / round.shards))
        try self.init(epochs: epochs ?? max(5, round.sweeps, (200 + steps - 1) / steps), stepsPerEpoch: steps, rowsEach: nil, round: round)
    }

    private init(epochs: Int, stepsPerEpoch: Int, rowsEach: Int?, round: Round) throws(AccrueError) {
        guard round.sweeps <= epochs else {
            throw AccrueError(
                .invalidInput, while: "planning a round", "\(round.sweeps) sweeps share \(epochs) epochs; each needs at least one",
                hint: "raise settings.epochs, or lower sweeps")
        }
        self.epochs = epochs
        sweeps = round.sweeps
        self.stepsPerEpoch = stepsPerEpoch
        self.rowsEach = rowsEach
    }

    public var steps: Int { epochs * stepsPerEpoch }

    /// The first of the last steps of a round, a share of all; there is at least one.
    public func tailStart(_ share: Double) -> Int { min(steps - 1, Int((Double(steps) * (1 - share)).rounded())) }

    /// The epochs of a sweep.
    public func epochs(of sweep: Int) -> Range<Int> { epochs * sweep / sweeps..<epochs * (sweep + 1) / sweeps }

    /// The rows of one step, out of a shard's: places in an epoch's order.
    public func rows(of step: Int, shardRows: Int) -> Range<Int> {
        if let rowsEach { return step * rowsEach..<(step + 1) * rowsEach }
        return shardRows * step / stepsPerEpoch..<shardRows * (step + 1) / stepsPerEpoch
    }
}

/// The loop that all methods share: epochs in random order, batches, the schedule over the whole round, an average over the tail, and a stop at the
/// first loss that is not finite. A method gives its gradient.
public struct TrainingLoop: Sendable {
    public let plan: TrainingPlan
    public let schedule: Schedule
    /// The first step of the round whose weights may enter the average.
    public let averageFrom: Int
    /// Every how many steps weights enter it.
    public let averageEvery: Int

    /// - Parameters:
    ///   - schedule: the rate by step of the round, over all its sweeps.
    ///   - averageFrom: at or beyond the plan's steps: nothing is averaged.
    public init(plan: TrainingPlan, schedule: Schedule, averageFrom: Int, averageEvery: Int = 1) {
        self.plan = plan
        self.schedule = schedule
        self.averageFrom = averageFrom
        self.averageEvery = averageEvery
    }

    /// The rate falls linearly over the round's steps to a share of it; weights of the last steps are averaged.
    /// - Parameters:
    ///   - finalRate: the share of the rate that is left at the last step.
    ///   - averageTail: the share of the steps, the last, that enter the average; at least one does.
    public init(plan: TrainingPlan, learningRate: Double, finalRate: Double, averageTail: Double) {
        self.init(
            plan: plan, schedule: .linear(from: learningRate, to: learningRate * finalRate, steps: plan.steps),
            averageFrom: plan.tailStart(averageTail))
    }

    /// What a sweep on one shard came to.
    public struct Outcome<Chosen: Optimiser>: Sendable {
        public var weights: Chosen.Weights
        public var optimiser: Chosen
        /// Mean of what entered the average during this sweep, weights or what else the optimiser names; nil when nothing did, or it was collected.
        public var average: Chosen.Averaged?
        public var averaged: Int
        public var report: FitReport
    }

    /// Trains on a shard for one sweep.
    /// - Parameters:
    ///   - collect: given what would enter the average at every step, in its place; nil: it is averaged.
    ///   - gradient: loss and gradient at the weights for a batch; the key is the step's own.
    /// - Throws: `diverged` at the first loss that is not finite; `unavailable` when the round is stopped; what `gradient` and `collect` throw.
    public func run<Chosen: Optimiser>(
        _ start: Chosen.Weights, _ optimiser: Chosen, rows: DesignRows, round: Round, key: RandomKey,
        collect: ((Chosen.Averaged) throws(AccrueError) -> Void)? = nil,
        gradient: (Chosen.Weights, Batch, RandomKey) throws(AccrueError) -> (value: Tensor, gradient: Chosen.Weights)
    ) throws(AccrueError) -> Outcome<Chosen> {
        var weights = start, optimiser = optimiser
        var average: Chosen.Averaged?
        var averaged = 0, taken = 0
        var epochLoss = 0.0
        for epoch in plan.epochs(of: round.sweep) {
            let order = key.folding("order").folding(epoch).permutation(rows.count)
            epochLoss = 0
            for step in 0..<plan.stepsPerEpoch {
                if round.shouldStop() {
                    throw AccrueError(.unavailable, while: "fitting shard \(round.shard) of version \(round.index)", "the fit was stopped")
                }
                let number = epoch * plan.stepsPerEpoch + step
                let batch = try rows.batch(order[plan.rows(of: step, shardRows: rows.count)])
                let (value, slope) = try gradient(weights, batch, key.folding("step").folding(number))
                let loss = try value.item()
                guard loss.isFinite else {
                    throw AccrueError(
                        .diverged, while: "fitting shard \(round.shard) of version \(round.index)", "the loss is \(loss) at step \(number)",
                        hint: "lower the learning rate, or check the inputs' transform")
                }
                epochLoss += loss
                try optimiser.update(&weights, gradient: slope, rate: schedule.rate(at: Double(number)))
                taken += 1
                if number >= averageFrom, (number + 1 - averageFrom) % averageEvery == 0 {
                    averaged += 1
                    let share = 1 / Double(averaged), now = optimiser.averaged(weights)
                    if let collect {
                        try collect(now)
                    } else if let mean = average {
                        average = try mean.zip(now) { (mean, new) throws(AccrueError) in try mean.blended(with: new[0], share: share) }
                    } else {
                        average = now
                    }
                }
            }
        }
        guard try weights.isFinite() else {
            throw AccrueError(
                .diverged, while: "fitting shard \(round.shard) of version \(round.index)", "weights are not finite after \(taken) steps", hint: "lower the learning rate")
        }
        return Outcome(
            weights: weights, optimiser: optimiser, average: average, averaged: averaged,
            report: FitReport(steps: taken, figures: ["loss": epochLoss / Double(plan.stepsPerEpoch)]))
    }
}
