import AccrueBayes
import AccrueCore
import AccrueTensor

/// What people do without a posterior, to compare with: one network, trained with Adam on one part after another, served as it is.
///
/// `kind: fineTuning` remembers its weights alone; `ewc` also a penalty on leaving the last weights, by the Fisher information summed over the parts
/// (online elastic weight consolidation; Kirkpatrick et al. 2017, Schwarz et al. 2018); `retrain` keeps all rows and starts anew with each part.
/// `replay` keeps that many rows, drawn from all so far, and mixes them with a part's. One shard: these learn in one place.
struct Baseline: LearningMethod {
    enum Kind: String, CaseIterable { case fineTuning, ewc, retrain }

    struct State: StoredValue {
        var weights: NamedTensors
        /// Σ of the Fisher information's diagonals; EWC's alone.
        var importance: NamedTensors?
        var memory: Reservoir
    }

    let kind: Kind
    let model: ModelDeclaration
    let likelihood: Likelihood
    let epochs: Int, batch: Int, fisherRows: Int
    let learningRate: Double, finalRate: Double
    /// EWC's λ.
    let penalty: Double
    let memoryRows: Int
    let schema: Schema
    let network: Network
    let design: Design

    init(_ value: JSONValue, schema: Schema) throws(AccrueError) {
        let settings = try SettingsReader(
            value, known: ["kind", "model", "likelihood", "epochs", "batch", "learningRate", "finalRate", "penalty", "fisherRows", "replay"],
            while: "reading the settings of Baseline")
        kind = try settings.choice("kind", default: .fineTuning)
        model = try ModelDeclaration(settings)
        likelihood = try Likelihood(settings, schema: schema)
        epochs = try settings.whole("epochs", default: 5, in: 1...100_000)
        batch = try settings.whole("batch", default: 128, in: 1...1_000_000)
        learningRate = try settings.number("learningRate", default: 0.001, in: 1e-9...10)
        finalRate = try settings.number("finalRate", default: 0.05, in: 0...1)
        penalty = try settings.number("penalty", default: 1, in: 0...1e12)
        fisherRows = try settings.whole("fisherRows", default: 1_000, in: 1...10_000_000)
        memoryRows = kind == .retrain ? .max : try settings.whole("replay", default: 0, in: 0...10_000_000)
        self.schema = schema
        network = try model.network(inputShape: Design.inputShape(schema), outputs: likelihood.outputs)
        design = try Design(schema: schema, network: network, likelihood: likelihood)
    }

    var phases: MethodPhases { MethodPhases(scores: true, statistics: false) }

    func initialState(key: RandomKey) throws(AccrueError) -> State {
        State(weights: try network.initialWeights(with: likelihood, key: key), memory: Reservoir(capacity: memoryRows))
    }

    func fit(_ work: State, to shard: [Rows], round: Round, key: RandomKey) throws(AccrueError) -> (delta: State, report: FitReport) {
        guard round.shards == 1, round.sweeps == 1 else {
            throw AccrueError(.invalidInput, while: "fitting a baseline", "there are \(round.shards) shards and \(round.sweeps) sweeps; baselines learn in one place", hint: "use shards: 1 and sweeps: 1")
        }
        var stretches = shard
        if let kept = try work.memory.rows(schema) { stretches.insert(kept, at: 0) }
        let rows = try design.rows(stretches)
        // Retraining is allowed its passes over all; replay takes the places of new rows in the same number of steps.
        var budget = round
        if kind == .retrain { budget.roundRows = rows.count }
        budget.shardRows = rows.count
        let plan = try TrainingPlan(epochs: epochs, batch: batch, round: budget)
        let loop = TrainingLoop(plan: plan, schedule: .linear(from: learningRate, to: learningRate * finalRate, steps: plan.steps), averageFrom: plan.steps)
        let start = kind == .retrain ? try initialState(key: key.folding("start")).weights : work.weights
        let zeros = try start.zeros()
        var pull: (centre: NamedTensors, strength: NamedTensors)?
        if let importance = work.importance {
            let share = penalty / Double(round.roundRows)
            pull = (work.weights, try importance.map { (sum) throws(AccrueError) in try sum * share })
        }
        let outcome = try loop.run(start, Adam(first: zeros, second: zeros, steps: 0, pull: pull), rows: rows, round: round, key: key) { (weights, batch, _) throws(AccrueError) in
            try valueAndGradient(at: weights) { (weights) throws(AccrueError) in
                var pass = PlainPass(weights)
                return try likelihood.loss(try network.apply(batch.inputs, &pass), batch.targets, weights: weights)
            }
        }
        var delta = State(weights: outcome.weights, importance: work.importance, memory: work.memory)
        if kind == .ewc { delta.importance = try importance(outcome.weights, try design.rows(shard), added: work.importance, key: key.folding("fisher")) }
        if memoryRows > 0 { delta.memory = work.memory.merged(with: [try Reservoir(of: shard, capacity: memoryRows, key: key.folding("memory"))]) }
        return (delta, outcome.report)
    }

    func merge(_ deltas: [Weighted<State>], into work: State, round: Round, key: RandomKey) throws(AccrueError) -> State { deltas.first?.value ?? work }

    func score(_ state: State, on rows: Rows, key: RandomKey) throws(AccrueError) -> Score? { try posterior(state).score(rows, draws: 1, key: key) }

    func load(_ state: State) throws(AccrueError) -> any LoadedState { try posterior(state) }

    private func posterior(_ state: State) throws(AccrueError) -> NetworkPosterior {
        NetworkPosterior(
            schema: schema, design: design, network: network, likelihood: likelihood,
            description: ["method": "Baseline", "kind": .string(kind.rawValue)], members: [NetworkMember(state.weights)])
    }

    private func importance(_ weights: NamedTensors, _ rows: DesignRows, added: NamedTensors?, key: RandomKey) throws(AccrueError) -> NamedTensors {
        let wanted = min(rows.count, fisherRows), chosen = key.folding("rows").permutation(rows.count).prefix(wanted)
        var sums = try weights.zeros()
        for start in stride(from: 0, to: wanted, by: 100) {
            let batch = try rows.batch(chosen[start..<min(wanted, start + 100)])
            let squares = try network.squaredGradients(weights, inputs: batch.inputs) { (outputs) throws(AccrueError) in
                let labels = try likelihood.draw(try outputs.detached(), weights: weights, key: key.folding("labels").folding(start))
                return try likelihood.loss(outputs, labels, weights: weights, .sum)
            }
            let own = NamedTensors(squares.tensors.map { ($0.name, $0.tensor) } + (try likelihood.ownWeights()))
            sums = try sums.zip(own) { (sum, part) throws(AccrueError) in try sum + part[0] }
        }
        let scale = Double(rows.count) / Double(wanted)
        sums = try sums.map { (sum) throws(AccrueError) in try sum * scale }
        return try added.map { (before) throws(AccrueError) in try before.zip(sums) { (a, b) throws(AccrueError) in try a + b[0] } } ?? sums
    }
}

extension Baseline.State {
    var stored: Safetensors {
        var tensors = memory.storedTensors()
        for (prefix, tree) in [("weights", weights), ("importance", importance ?? NamedTensors())] {
            // Reading a tensor fails only without memory for the copy.
            for (name, tensor) in tree.tensors { tensors["\(prefix).\(name)"] = try? tensor.bytes() }
        }
        return Safetensors(tensors: tensors, metadata: ["capacity": String(memory.capacity)])
            .saying(roles: ["weights": .mean, "importance": .precision, "reservoir": .keptRows])
    }
    init(_ stored: Safetensors) throws(AccrueError) {
        let importance = try NamedTensors(stored, prefix: "importance.")
        self.init(
            weights: try NamedTensors(stored, prefix: "weights."), importance: importance.names.isEmpty ? nil : importance,
            memory: try Reservoir(stored, capacity: stored.metadata["capacity"].flatMap(Int.init) ?? 0))
    }
}

extension MethodCatalog {
    /// The standard methods, and what they are compared with.
    static let withBaselines = MethodCatalog.standard.adding("Baseline") { (settings, schema) throws(AccrueError) in
        ErasedMethod(try Baseline(settings, schema: schema))
    }
}
