import AccrueBayes
import AccrueCore
import AccrueTensor

/// A version that is a mean and a precision diag(D) + C.
struct PrecisionState: StoredValue {
    /// What made it.
    var inference: IncrementalBayes.Inference
    var mean: NamedTensors
    /// D.
    var precision: NamedTensors
    /// C; empty for independent weights.
    var coupling: NamedTensors
    var memory: StreamMemory

    static let precisionRange = 1e-8...1e12
}

/// Kinds of inference whose versions are `PrecisionState`s: how these begin, come from outside, are scored and answer. One kind's posterior is a prior for
/// another as good as its own.
protocol PrecisionInference: LearningMethod where State == PrecisionState {
    static var inference: IncrementalBayes.Inference { get }
    var model: IncrementalModel { get }
    var family: any PrecisionFamily { get }
}

extension PrecisionInference {
    func initialState(key: RandomKey) throws(AccrueError) -> State { try first(mean: try model.initialWeights(key: key)) }

    /// A posterior of one of these methods is taken as it is; a network becomes the mean of the first prior, whose precision is its own.
    func adopt(_ imported: Safetensors, into state: State, key: RandomKey) throws(AccrueError) -> State {
        if let method = WeightsFromOutside.method(of: imported) {
            guard method == IncrementalBayes.name, PrecisionState.inference(of: imported) != nil else {
                let known = PrecisionState.inferences.map(\.rawValue).joined(separator: " or ")
                throw WeightsFromOutside.strange(method, needed: "\(IncrementalBayes.name) with inference \(known)")
            }
            var adopted = try State(imported)
            adopted.inference = Self.inference
            adopted.precision = try WeightsFromOutside.weights(imported, prefix: "precision.", like: state.precision)
            adopted.mean = try WeightsFromOutside.weights(imported, prefix: "mean.", like: state.mean)
            _ = try posterior(adopted, scale: adopted.memory.drawScale, offsets: try offsets(adopted))
            return adopted
        }
        return try first(mean: try WeightsFromOutside.network(imported, like: state.mean, likelihood: model.likelihood))
    }

    /// Weights of new classes have the first prior, N(0, 1/P₀); what is coupled to all classes at once cannot grow.
    func adapt(_ state: State, from old: Schema, key: RandomKey) throws(AccrueError) -> State {
        let first = try model.priorPrecision()
        var result = state
        result.mean = try WeightsFromOutside.appended(state.mean, try first.zeros())
        result.precision = try WeightsFromOutside.appended(state.precision, first)
        result.coupling = try family.appended(state.coupling)
        return result
    }

    func score(_ state: State, on rows: Rows, key: RandomKey) throws(AccrueError) -> Score? {
        let offsets = try offsets(state)
        var score = try posterior(state, scale: state.memory.drawScale, offsets: offsets).score(rows, draws: model.settings.scoreDraws, key: key)
        guard model.settings.drawScale == nil else { return score }
        let few = rows.rows(0..<min(rows.count, StreamMemory.scaleRows))
        // The same standard normals at every scale: differences between scales are much surer than the densities themselves.
        var densities: [String: Double] = [:]
        for factor in StreamMemory.scaleFactors {
            let posterior = try posterior(state, scale: state.memory.drawScale * factor, offsets: offsets)
            densities[StreamMemory.densityName(factor)] = try posterior.score(few, draws: StreamMemory.scaleDraws, key: key.folding("scales")).logDensity
        }
        score.otherDensities = densities
        return score
    }

    func remarks(on state: State) throws(AccrueError) -> [Remark] { state.memory.remarks(model.settings) }

    func load(_ state: State) throws(AccrueError) -> any LoadedState {
        try posterior(state, scale: state.memory.drawScale, offsets: try offsets(state))
    }

    /// The Fisher information at the weights of a shard's part of the round's `fisherRows` rows, scaled to all rows of the shard.
    func fisher(at weights: NamedTensors, on rows: DesignRows, round: Round, key: RandomKey) throws(AccrueError) -> Information {
        let (chosen, scale) = rows.sample(model.settings.fisherRows, of: round, key: key)
        return try fisher(at: weights, on: rows, numbers: chosen, scale: scale, round: round, key: key)
    }

    /// `scale` times the Fisher information at the weights of the rows with these numbers.
    func fisher(
        at weights: NamedTensors, on rows: DesignRows, numbers chosen: some RandomAccessCollection<Int>, scale: Double, round: Round, key: RandomKey
    ) throws(AccrueError) -> Information {
        let chosen = Array(chosen)
        var sum = Information(diagonal: try weights.zeros(), coupling: try family.none())
        for start in stride(from: 0, to: chosen.count, by: fisherRowsAtOnce) {
            if round.shouldStop() { throw AccrueError(.unavailable, while: "estimating the Fisher information", "the work was stopped") }
            let batch = try rows.batch(chosen[start..<min(chosen.count, start + fisherRowsAtOnce)])
            sum = try family.sum(sum, try fisher(weights, batch, key: key.folding("labels").folding(start)))
        }
        return Information(
            diagonal: try sum.diagonal.map { (sum) throws(AccrueError) in try sum * scale }, coupling: try family.scaled(sum.coupling, by: scale))
    }

    /// The first prior around a mean.
    private func first(mean: NamedTensors) throws(AccrueError) -> State {
        State(inference: Self.inference, mean: mean, precision: try model.priorPrecision(), coupling: try family.none(), memory: StreamMemory(model.settings))
    }

    /// Fisher information of a batch, the likelihood's own weights with it.
    private func fisher(_ weights: NamedTensors, _ batch: Batch, key: RandomKey) throws(AccrueError) -> Information {
        var information = try family.information(weights, batch, key: key)
        // The information about a Gaussian's log variance is ½ a row, in closed form.
        let own = try model.likelihood.ownWeights()
        var list = information.diagonal.tensors.map { ($0.name, $0.tensor) }
        for (name, tensor) in own { list.append((name, try .full(tensor.shape, 0.5 * Double(batch.inputs.rowCount)))) }
        information.diagonal = NamedTensors(list)
        return information
    }

    /// Draws around zero at scale 1, made ready once for all scales; nil where weights are independent.
    private func offsets(_ state: State) throws(AccrueError) -> Offsets? {
        try state.coupling.check(against: try family.none(), while: "loading a posterior")
        return try family.draws(state.precision, state.coupling)
    }

    private func posterior(_ state: State, scale: Double, offsets: Offsets?) throws(AccrueError) -> NetworkPosterior {
        let settings = model.settings
        var more = state.memory.description
        if settings.family != .diagonal { more["family"] = .string(settings.family.rawValue) }
        if settings.predictive != .draws { more["predictive"] = .string(settings.predictive.rawValue) }
        if settings.family == .lowRank { more["rank"] = .integer(settings.rank) }
        let mean = try model.labelShift(state.memory.labelCounts(of: model.likelihood.outputs)).map { (shift) throws(AccrueError) in try state.mean.adding(shift) } ?? state.mean
        return try model.posterior(
            mean: mean, deviation: try state.precision.map { (precision) throws(AccrueError) in try precision.reciprocalSquareRoot() }, scale: scale,
            offsets: offsets, linearised: settings.predictive == .linearised, inference: Self.inference.rawValue, more: more)
    }
}

private typealias Offsets = @Sendable (RandomKey) throws(AccrueError) -> NamedTensors
private let fisherRowsAtOnce = 100

extension NamedTensors {
    /// The sum with a tree that has some of the names.
    func adding(_ other: NamedTensors) throws(AccrueError) -> NamedTensors {
        var result = self
        try result.visit { (name, tensor) throws(AccrueError) in
            if other.contains(name) { tensor = try tensor + (try other.tensor(name).cast(to: tensor.dtype)) }
        }
        return result
    }

    func negated() throws(AccrueError) -> NamedTensors { try map { (tensor) throws(AccrueError) in try tensor.negated() } }

    /// Precisions of which a share κ is kept; the rest is the first prior's: P₀ + κ(P − P₀), in Float64.
    func mixed(with first: NamedTensors, keep: Double) throws(AccrueError) -> NamedTensors {
        try zip(first) { (precision, first) throws(AccrueError) in
            try first[0].cast(to: .f64) + (try (precision.cast(to: .f64) - first[0].cast(to: .f64)) * keep)
        }
    }
}

// MARK: stored form

extension PrecisionState {
    static let inferences: [IncrementalBayes.Inference] = [.laplace, .naturalGradient]

    /// The kind that made an export; nil when it is none of these.
    static func inference(of stored: Safetensors) -> IncrementalBayes.Inference? { inferences.first { $0.rawValue == stored.metadata["inference"] } }

    var stored: Safetensors {
        StoredTrees.stored(["mean": mean, "precision": precision, "coupling": coupling], ["method": IncrementalBayes.name, "inference": inference.rawValue])
            .adding(memory.storedTensors, memory.storedMetadata)
            .saying(roles: ["mean": .mean, "precision": .precision, "coupling": .precisionCoupling, "reservoir": .keptRows])
    }

    init(_ stored: Safetensors) throws(AccrueError) {
        guard let inference = Self.inference(of: stored) else {
            throw AccrueError(
                .corrupt, while: "reading a posterior", "metadata 'inference' is none of \(Self.inferences.map(\.rawValue).joined(separator: ", "))",
                hint: "these bytes belong to another method")
        }
        self.init(
            inference: inference, mean: try NamedTensors(stored, prefix: "mean."), precision: try NamedTensors(stored, prefix: "precision."),
            coupling: try NamedTensors(stored, prefix: "coupling."), memory: try StreamMemory(stored))
    }
}

extension ParameterRole {
    /// C of a precision diag(D) + C: blocks without their diagonals, or the columns W of C = W Wᵀ, each a row.
    static let precisionCoupling = ParameterRole("precision beside the diagonal")
}
