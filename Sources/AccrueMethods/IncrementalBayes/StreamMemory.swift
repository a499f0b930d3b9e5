import AccrueBayes
import AccrueCore
import Foundation

/// What a posterior remembers of its stream besides the weights' distribution: how well new rows were predicted, how wide draws should be, and some rows.
struct StreamMemory: Sendable {
    var drift: DriftStatistic
    /// Whether the round that made this version told of a drift.
    var drifted: Bool
    /// Draws use standard deviations times this.
    var drawScale: Double
    var reservoir: Reservoir
    /// Rows of each class so far; with every part κ of those before stay; empty without `labelShift`.
    var labelCounts: [Double]

    /// Of version 0.
    init(_ settings: IncrementalBayes.Settings) {
        drift = DriftStatistic()
        drifted = false
        drawScale = settings.drawScale ?? 1
        reservoir = settings.reservoir.empty
        labelCounts = []
    }

    /// Adds a shard's rows of each class.
    mutating func count(_ more: [Double]) {
        if !more.isEmpty { labelCounts = zip(labelCounts(of: more.count), more).map { $0 + $1 } }
    }

    /// Rows of so many classes, of which the last may be new.
    func labelCounts(of classes: Int) -> [Double] { labelCounts + [Double](repeating: 0, count: max(0, classes - labelCounts.count)) }

    /// Scales tried around the version's own when rows are scored, rows of a chunk and draws for it.
    static let scaleFactors = [0.7, 1, 1.4]
    static let scaleRows = 250, scaleDraws = 16
    /// How a score calls the density under draws of a scale.
    static func densityName(_ factor: Double) -> String { "drawScale × \(factor)" }
    private static let scaleRange = 0.05...4.0
    /// U of Page and Hinkley's test, in standard deviations over rows, from which a round counts as drift.
    private static let pageHinkleyThreshold = 1.0

    /// The memory of the next version, and the share κ of the last posterior's precision that it keeps.
    func next(_ offered: Reservoir, scores: Score?, round: Round, settings: IncrementalBayes.Settings) -> (memory: StreamMemory, keep: Double) {
        var next = self
        next.reservoir = reservoir.merged(with: [offered])
        next.drifted = false
        // Version 0 knows nothing: how it scores rows is no reference.
        if let scores, !round.isFirst {
            next.drifted = next.drift.observe(scores, zThreshold: settings.driftThreshold, pageHinkleyThreshold: Self.pageHinkleyThreshold)
            if settings.drawScale == nil {
                next.drawScale = Self.moved(drawScale, by: Self.scaleFactors.compactMap { scores.otherDensities?[Self.densityName($0)] })
            }
        }
        let keep = next.drifted ? settings.keepOnDrift : settings.keep
        next.labelCounts = labelCounts.map { $0 * keep }
        return (next, keep)
    }

    /// The scale moved to the best of those tried: the top of the parabola, over log scale, through the best and its neighbours. At most one factor of
    /// those tried a version, so a part of few rows does not throw it about.
    private static func moved(_ scale: Double, by densities: [Double]) -> Double {
        guard densities.count == scaleFactors.count, densities.allSatisfy(\.isFinite), let top = densities.max(), let best = densities.firstIndex(of: top) else {
            return scale
        }
        let x = scaleFactors.map { log($0) }
        var place = x[best]
        if best > 0, best < x.count - 1 {
            let (a, b, c) = (x[best - 1], x[best], x[best + 1]), (fa, fb, fc) = (densities[best - 1], densities[best], densities[best + 1])
            let numerator = (b - a) * (b - a) * (fb - fc) - (b - c) * (b - c) * (fb - fa), denominator = (b - a) * (fb - fc) - (b - c) * (fb - fa)
            if abs(denominator) > 1e-12 { place = min(c, max(a, b - 0.5 * numerator / denominator)) }
        }
        return min(scaleRange.upperBound, max(scaleRange.lowerBound, scale * exp(place)))
    }

    /// The drift that this version's round told of, if it did.
    func remarks(_ settings: IncrementalBayes.Settings) -> [Remark] {
        guard drifted else { return [] }
        let kept = settings.keepOnDrift < settings.keep ? "; \(settings.keepOnDrift) of the past's precision is kept" : ""
        let text = String(
            format: "log predictive density fell to %.4f nats a row before learning, z-score %.1f, Page-Hinkley %.2f", drift.mean, drift.zScore, drift.pageHinkley)
        return [Remark(kind: .drift, text: text + kept)]
    }

    /// What `describe` says of it.
    var description: [String: JSONValue] {
        var description: [String: JSONValue] = [
            "drift": .object([
                "drifted": .bool(drifted), "zScore": .number(drift.zScore), "pageHinkley": .number(drift.pageHinkley),
                "referenceLogPredictiveDensity": .number(drift.mean),
            ]),
            "reservoirRows": .integer(reservoir.count),
        ]
        if !labelCounts.isEmpty { description["labelCounts"] = .array(labelCounts.map { .number($0) }) }
        return description
    }
}

extension StreamMemory {
    var storedTensors: [String: TensorBytes] { reservoir.storedTensors() }
    var storedMetadata: [String: String] {
        var numbers: [String: JSONValue] = [
            "rows": .number(drift.rows), "mean": .number(drift.mean), "variance": .number(drift.variance), "pageHinkley": .number(drift.pageHinkley),
            "zScore": .number(drift.zScore), "drifted": .bool(drifted), "drawScale": .number(drawScale), "capacity": .integer(reservoir.capacity),
        ]
        if !labelCounts.isEmpty { numbers["labelCounts"] = .array(labelCounts.map { .number($0) }) }
        return ["stream": JSONValue.object(numbers).canonical]
    }

    /// - Throws: `corrupt` when it is missing or not of this form.
    init(_ stored: Safetensors) throws(AccrueError) {
        let operation = "reading what a posterior remembers of its stream"
        guard let text = stored.metadata["stream"], let value = try? JSONValue(parsing: Data(text.utf8)), let capacity = value["capacity"]?.int,
            let drifted = value["drifted"]?.bool
        else { throw AccrueError(.corrupt, while: operation, "metadata 'stream' is missing or broken", hint: "these bytes belong to another method or version of it") }
        func number(_ name: String) throws(AccrueError) -> Double {
            guard let number = value[name]?.double else { throw AccrueError(.corrupt, while: operation, "'\(name)' is missing in metadata 'stream'") }
            return number
        }
        drift = DriftStatistic(
            rows: try number("rows"), mean: try number("mean"), variance: try number("variance"), pageHinkley: try number("pageHinkley"), zScore: try number("zScore"))
        self.drifted = drifted
        drawScale = try number("drawScale")
        reservoir = try Reservoir(stored, capacity: capacity)
        labelCounts = value["labelCounts"]?.array?.compactMap(\.double) ?? []
    }
}
