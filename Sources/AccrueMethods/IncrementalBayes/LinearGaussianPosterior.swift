import AccrueBayes
import AccrueCore
import AccrueTensor
import Foundation

/// Linear regression with known noise, in closed form and Float64: `family: full` is the exact posterior, `family: diagonal` the factorised Gaussian with
/// the largest evidence bound.
///
/// Shard k fits its likelihood to the power 1/w_k against the prior; weighted differences are sites, and prior plus sites is the posterior: exact for
/// `full` in one sweep and any shards. For `diagonal` the precisions are exact and the mean approaches the optimum over further, partitioned sweeps.
struct LinearGaussianPosterior: LearningMethod {
    /// Natural parameters: precision ([d, d] or [d]), then precision times mean [d], as one vector.
    struct State: StoredValue {
        var natural: [Double]
        var features: Int
        var isFull: Bool
    }

    struct Work: StoredValue {
        var prior: [Double]
        var current: [Double]
        /// One a shard; empty before the first sweep.
        var sites: [[Double]]
    }

    struct Delta: StoredValue {
        var site: [Double]
    }

    let settings: IncrementalBayes.Settings
    let schema: Schema
    let noisePrecision: Double
    let targetScale: TargetScale
    /// Weights: input elements, and one for the bias.
    let features: Int
    private var isFull: Bool { settings.family == .full }

    init(settings: IncrementalBayes.Settings, schema: Schema) throws(AccrueError) {
        guard case .gaussian(let precision?) = settings.likelihood else {
            throw AccrueError(.invalidInput, while: "building a linear-Gaussian model", "the noise is not known", hint: "give likelihood.noisePrecision")
        }
        self.settings = settings
        self.schema = schema
        noisePrecision = precision
        guard let target = schema.tensors(.target).first else { throw AccrueError(.invalidInput, while: "building a linear-Gaussian model", "there is no target") }
        targetScale = try TargetScale(target, likelihood: settings.likelihood)
        if let picture = schema.tensors(.input).first(where: { $0.transform?.format != nil || ($0.transform?.pool ?? 1) > 1 }) {
            throw AccrueError(
                .invalidInput, while: "building a linear-Gaussian model", "'\(picture.name)' has a transform of pictures; closed forms take numbers as they come",
                hint: "leave format and pool out, or use inference: laplace")
        }
        features = schema.tensors(.input).reduce(0) { $0 + $1.rowElementCount } + (settings.model.bias ? 1 : 0)
    }

    var phases: MethodPhases { MethodPhases(scores: true, statistics: false) }

    func initialState(key: RandomKey) throws(AccrueError) -> State { State(natural: prior, features: features, isFull: isFull) }

    func begin(_ state: State, round: Round, key: RandomKey) throws(AccrueError) -> Work {
        try check(state)
        // Forgetting mixes with the first prior, which keeps every posterior proper.
        let mixed = settings.keep == 1 ? state.natural : zip(state.natural, prior).map { settings.keep * $0 + (1 - settings.keep) * $1 }
        return Work(prior: mixed, current: mixed, sites: [])
    }

    func fit(_ work: Work, to shard: [Rows], round: Round, key: RandomKey) throws(AccrueError) -> (delta: Delta, report: FitReport) {
        var data = LinearGaussian(features: features, noisePrecision: noisePrecision / settings.temperature)
        for rows in shard { try add(rows, to: &data) }
        let site: [Double]
        if work.sites.isEmpty {
            let weight = Double(round.shardRows) / Double(round.roundRows)
            site = Sites.scaled(fit: try posterior(work.prior, data, exponent: 1 / weight), prior: work.prior, weight: weight)
        } else {
            let before = work.sites[round.shard]
            let cavity = Sites.cavity(posterior: work.current, site: before)
            site = Sites.damped(before, towards: try posterior(cavity, data, exponent: 1), cavity: cavity, damping: settings.damping)
        }
        return (Delta(site: site), FitReport(steps: 1))
    }

    func merge(_ deltas: [Weighted<Delta>], into work: Work, round: Round, key: RandomKey) throws(AccrueError) -> Work {
        var result = work
        result.sites = deltas.map(\.value.site)
        if isFull {
            result.current = Sites.posterior(prior: work.prior, sites: result.sites)
        } else {
            let (merged, _) = Sites.guarded(prior: diagonal(work.prior), sites: result.sites.map(diagonal))
            result.current = merged.precision + merged.precisionMean
        }
        return result
    }

    func score(_ state: State, on rows: Rows, key: RandomKey) throws(AccrueError) -> Score? {
        let predictions = try LoadedLinear(method: self, state: state).predictions(rows)
        return Predictions.numbers(predictions).score(try targets(rows))
    }

    func finish(_ work: Work, round: Round, moments: [NoStatistics], scores: Score?, key: RandomKey) throws(AccrueError) -> State {
        let state = State(natural: work.current, features: features, isFull: isFull)
        // No version is made that could not be asked.
        _ = try LoadedLinear(method: self, state: state)
        return state
    }

    func adopt(_ imported: Safetensors, into state: State, key: RandomKey) throws(AccrueError) -> State {
        do throws(AccrueError) {
            let adopted = try State(imported)
            _ = try LoadedLinear(method: self, state: adopted)
            return adopted
        } catch {
            throw AccrueError(
                .invalidInput, while: "importing a posterior", error.problem,
                hint: "import what 'accrue posterior export' gives: precisionMean [\(features)] and precision [\(isFull ? "\(features), \(features)" : "\(features)")]")
        }
    }

    func load(_ state: State) throws(AccrueError) -> any LoadedState { try LoadedLinear(method: self, state: state) }

    // MARK: mathematics

    private var prior: [Double] {
        let precision = settings.priorPrecision * (settings.priorPerFanIn ? Double(features) : 1)
        let diagonal = [Double](repeating: precision, count: features)
        return (isFull ? SymmetricMatrix(diagonal: diagonal).elements : diagonal) + [Double](repeating: 0, count: features)
    }

    func check(_ state: State) throws(AccrueError) {
        guard state.features == features, state.isFull == isFull else {
            throw AccrueError(
                .corrupt, while: "reading a posterior", "it has \(state.features) weights, family \(state.isFull ? "full" : "diagonal")",
                hint: "these bytes belong to other settings: \(features) weights, family \(settings.family.rawValue)")
        }
    }

    func full(_ natural: [Double]) -> FullGaussian {
        FullGaussian(
            precision: SymmetricMatrix(size: features, elements: Array(natural.prefix(features * features))), precisionMean: Array(natural.suffix(features)))
    }

    func diagonal(_ natural: [Double]) -> DiagonalGaussian {
        DiagonalGaussian(precision: Array(natural.prefix(features)), precisionMean: Array(natural.suffix(features)))
    }

    private func posterior(_ prior: [Double], _ data: LinearGaussian, exponent: Double) throws(AccrueError) -> [Double] {
        if isFull {
            let result = data.posterior(prior: full(prior), exponent: exponent)
            return result.precision.elements + result.precisionMean
        }
        let result = try data.factorised(prior: diagonal(prior), exponent: exponent)
        return result.precision + result.precisionMean
    }

    // MARK: rows

    /// Input numbers with their transforms, row by row, `features` each.
    func inputs(_ rows: Rows) throws(AccrueError) -> [Double] {
        var result = [Double](repeating: 1, count: rows.count * features)
        var offset = 0
        for spec in schema.tensors(.input) {
            guard let tensor = rows.tensors[spec.name] else { throw AccrueError(.invalidInput, while: "reading rows", "tensor '\(spec.name)' is missing") }
            let width = spec.rowElementCount
            let scale = spec.transform?.scale ?? 1
            func at(_ values: [Double]?, _ column: Int, _ standard: Double) -> Double { values.map { $0.count == 1 ? $0[0] : $0[column % $0.count] } ?? standard }
            for (index, value) in tensor.doubles().enumerated() {
                let (row, column) = index.quotientAndRemainder(dividingBy: width)
                let centred = value * scale - at(spec.transform?.mean, column, 0)
                result[row * features + offset + column] = centred / at(spec.transform?.standardDeviation, column, 1)
            }
            offset += width
        }
        return result
    }

    /// Targets in their own units.
    func targets(_ rows: Rows) throws(AccrueError) -> [Double] {
        guard let name = schema.tensors(.target).first?.name, let tensor = rows.tensors[name] else {
            throw AccrueError(.invalidInput, while: "reading rows", "the target is missing")
        }
        return tensor.doubles()
    }

    private func add(_ rows: Rows, to data: inout LinearGaussian) throws(AccrueError) {
        let inputs = try inputs(rows)
        for (row, target) in try targets(rows).enumerated() { data.add(input: inputs[row * features..<(row + 1) * features], target: targetScale.learned(target)) }
    }
}

// MARK: stored forms

extension LinearGaussianPosterior.State {
    var stored: Safetensors {
        let precision = isFull ? [features, features] : [features]
        return Safetensors(
            tensors: [
                "precision": TensorBytes(Array(natural.dropLast(features)), shape: precision),
                "precisionMean": TensorBytes(Array(natural.suffix(features)), shape: [features]),
            ],
            metadata: ["method": IncrementalBayes.name, "inference": "variational", "family": isFull ? "full" : "diagonal"]
        ).saying(roles: ["precision": .precision, "precisionMean": .precisionMean])
    }

    init(_ stored: Safetensors) throws(AccrueError) {
        let operation = "reading a posterior"
        let precisionMean = try stored.doubles("precisionMean", while: operation)
        isFull = stored.metadata["family"] == "full"
        features = precisionMean.count
        natural = try stored.doubles("precision", shape: isFull ? [features, features] : [features], while: operation) + precisionMean
    }
}

extension LinearGaussianPosterior.Work {
    var stored: Safetensors {
        Safetensors(tensors: [
            "prior": TensorBytes(prior, shape: [prior.count]), "current": TensorBytes(current, shape: [current.count]),
            "sites": TensorBytes(sites.flatMap { $0 }, shape: [sites.count, prior.count]),
        ])
    }

    init(_ stored: Safetensors) throws(AccrueError) {
        let operation = "reading a round in progress"
        prior = try stored.doubles("prior", while: operation)
        current = try stored.doubles("current", shape: [prior.count], while: operation)
        let flat = try stored.doubles("sites", while: operation)
        let width = prior.count
        guard width > 0, flat.count % width == 0 else { throw AccrueError(.corrupt, while: operation, "\(flat.count) numbers of sites for width \(width)") }
        sites = stride(from: 0, to: flat.count, by: width).map { Array(flat[$0..<$0 + width]) }
    }
}

extension LinearGaussianPosterior.Delta {
    var stored: Safetensors { Safetensors(tensors: ["site": TensorBytes(site, shape: [site.count])]) }
    init(_ stored: Safetensors) throws(AccrueError) { site = try stored.doubles("site", while: "reading a site") }
}
