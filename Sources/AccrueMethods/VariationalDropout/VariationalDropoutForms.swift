import AccrueBayes
public import AccrueCore
import AccrueTensor

// The stored forms of what VariationalDropout keeps and sends.

extension FactorisedGaussian<NamedTensors> {
    fileprivate func trees(_ mean: String, _ logScale: String) -> [String: NamedTensors] { [mean: self.mean, logScale: self.logScale] }
    fileprivate init(_ stored: Safetensors, _ mean: String, _ logScale: String) throws(AccrueError) {
        self.init(mean: try NamedTensors(stored, prefix: "\(mean)."), logScale: try NamedTensors(stored, prefix: "\(logScale)."))
    }
}

extension QuadraticSites<NamedTensors> {
    fileprivate var trees: [String: NamedTensors] { ["sitePrecision": precision, "sitePrecisionMean": precisionMean] }
    fileprivate init(_ stored: Safetensors) throws(AccrueError) {
        self.init(precision: try NamedTensors(stored, prefix: "sitePrecision."), precisionMean: try NamedTensors(stored, prefix: "sitePrecisionMean."))
    }
}

extension QuadraticSites<NamedTensors> {
    /// λ and η times a number.
    func scaled(by factor: Double) throws(AccrueError) -> QuadraticSites {
        guard factor != 1 else { return self }
        return QuadraticSites(
            precision: try precision.map { (precision) throws(AccrueError) in try precision * factor },
            precisionMean: try precisionMean.map { (precisionMean) throws(AccrueError) in try precisionMean * factor })
    }
}

extension Reservoir {
    /// How many rows it may have; nothing where it may have none.
    fileprivate var metadata: [String: String] { capacity > 0 ? ["capacity": String(capacity)] : [:] }
    fileprivate init(_ stored: Safetensors, named prefix: String) throws(AccrueError) {
        try self.init(stored, prefix, capacity: stored.metadata["capacity"] == nil ? 0 : StoredTrees.whole("capacity", stored))
    }
}

extension VariationalDropout.State {
    public var stored: Safetensors {
        StoredTrees.stored(sites.trees.merging(["mean": mean, "logScale": logScale]) { $1 }, ["method": VariationalDropout.name, "rows": String(rows)])
            .adding(reservoir.storedTensors(), reservoir.metadata)
            .saying(roles: [
                "mean": .mean, "logScale": .logDeviation, "sitePrecision": .likelihoodPrecision, "sitePrecisionMean": .likelihoodPrecisionMean, "reservoir": .keptRows,
            ])
    }
    public init(_ stored: Safetensors) throws(AccrueError) {
        self.init(
            mean: try NamedTensors(stored, prefix: "mean."), logScale: try NamedTensors(stored, prefix: "logScale."), sites: try QuadraticSites(stored),
            rows: try StoredTrees.whole("rows", stored), reservoir: try Reservoir(stored, named: "reservoir"))
    }
}

extension ParameterRole {
    /// Precision of a Gaussian factor that stands for the likelihood of rows so far.
    fileprivate static let likelihoodPrecision = ParameterRole("likelihood precision")
    /// That precision times the factor's mean.
    fileprivate static let likelihoodPrecisionMean = ParameterRole("likelihood precision times mean")
}

extension VariationalDropout.Delta {
    public var stored: Safetensors {
        StoredTrees.stored(trees, ["steps": String(steps)]).adding(offered.storedTensors("offered"), offered.metadata)
    }
    public init(_ stored: Safetensors) throws(AccrueError) {
        self.init(
            current: try FactorisedGaussian(stored, "mean", "logScale"), first: try FactorisedGaussian(stored, "first.mean", "first.logScale"),
            second: try FactorisedGaussian(stored, "second.mean", "second.logScale"), steps: try StoredTrees.whole("steps", stored),
            offered: try Reservoir(stored, named: "offered"))
    }
    fileprivate var trees: [String: NamedTensors] {
        current.trees("mean", "logScale").merging(first.trees("first.mean", "first.logScale")) { $1 }.merging(second.trees("second.mean", "second.logScale")) { $1 }
    }
}

extension VariationalDropout.Work {
    public var stored: Safetensors {
        let training = VariationalDropout.Delta(current: current, first: first, second: second, steps: steps, offered: offered)
        return StoredTrees.stored(training.trees.merging(sites.trees) { $1 }, ["steps": String(steps), "rows": String(rows)])
            .adding(reservoir.storedTensors().merging(offered.storedTensors("offered")) { $1 }, reservoir.metadata)
    }
    public init(_ stored: Safetensors) throws(AccrueError) {
        let training = try VariationalDropout.Delta(stored)
        self.init(
            current: training.current, first: training.first, second: training.second, steps: training.steps, sites: try QuadraticSites(stored),
            rows: try StoredTrees.whole("rows", stored), reservoir: try Reservoir(stored, named: "reservoir"), offered: training.offered)
    }
}

extension VariationalDropout.Sites {
    public var stored: Safetensors { StoredTrees.stored(sites.trees) }
    public init(_ stored: Safetensors) throws(AccrueError) { self.init(sites: try QuadraticSites(stored)) }
}
