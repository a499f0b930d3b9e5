public import AccrueBayes
public import AccrueCore

/// Stochastic weight averaging and its relatives: SGD with a rate that does not fall to zero wanders over a flat region of the loss; the weights that it
/// visits are averaged into one network (SWA), make a Gaussian (SWAG), or are an ensemble (FGE).
///
/// Source: Izmailov, Podoprikhin, Garipov, Vetrov & Wilson, "Averaging weights leads to wider optima and better generalization" (UAI 2018,
/// arXiv 1803.05407); Maddox, Garipov, Izmailov, Vetrov & Wilson, "A simple baseline for Bayesian uncertainty in deep learning" (NeurIPS 2019,
/// arXiv 1902.02476); Garipov, Izmailov, Podoprikhin, Vetrov & Wilson, "Loss surfaces, mode connectivity, and fast ensembling of DNNs" (NeurIPS 2018,
/// arXiv 1802.10026). That a round's schedule starts anew with every part of the data, and the window over rounds, are this project's.
///
/// What is exact in their merges stands with each: `PointAverage`, `SnapshotGaussian`, `GeometricEnsemble`. What is not, in all three: that weights
/// trained apart stay in one basin.
public enum WeightAveraging {
    public static let name = "WeightAveraging"

    /// What is made of the collected weights.
    public enum Posterior: String, CaseIterable, Sendable {
        /// Their mean: SWA, without an epistemic part (the default).
        case point
        /// A Gaussian with their mean and their variances: SWAG-Diagonal.
        case swagDiagonal
        /// A Gaussian with half their variances, and half the covariance of the newest `rank` of them: SWAG.
        case swag
        /// The newest `members` of them, collected at the lowest rate of each cycle; predictions are averaged: FGE.
        case fge
    }

    /// FGE's cycles.
    public struct Cycle: Equatable, Sendable {
        /// Passes over a round's rows in a cycle, an even number; default 2.
        public var epochs: Int
        /// α₁: rate at the ends of a cycle; default 0.05.
        public var high: Double
        /// α₂: rate in its middle, where weights are collected; default 0.01.
        public var low: Double
    }

    /// The `settings` of a pipeline file.
    public struct Settings: Sendable {
        public static let keys = [
            "model", "likelihood", "epochs", "batch", "learningRate", "averagingRate", "momentum", "weightDecay", "averageFrom", "collectEvery", "window",
            "posterior", "rank", "drawScale", "scoreDraws", "cycle", "members",
        ]
        public var model: ModelDeclaration
        public var likelihood: Likelihood
        public var posterior: Posterior
        /// Passes over a round's rows; default 5.
        public var epochs: Int
        /// Rows of a step, over all shards; default 128.
        public var batch: Int
        /// Rate for the first half of the approach; default 0.05.
        public var learningRate: Double
        /// Rate while weights are collected; default 0.01. Not of fge, whose cycles have theirs.
        public var averagingRate: Double
        /// Default 0.9.
        public var momentum: Double
        /// L2, per step; default 0.0005.
        public var weightDecay: Double
        /// Share of a round's steps before collecting, or fge's first cycle, begins; default 0.5.
        public var averageFrom: Double
        /// Steps between collected weights; default 10. Not of fge, which collects once a cycle.
        public var collectEvery: Int
        /// Collected weights that the average remembers at most, over rounds; default those of one round. Not of fge, which has `members`.
        public var window: Int?
        /// K: newest collected weights of swag's low-rank part; default 20.
        public var rank: Int
        /// Draws of swag and swagDiagonal use standard deviations times this; default 1.
        public var drawScale: Double
        /// Draws with which rows are scored before they are learned; default 4. Of swag and swagDiagonal.
        public var scoreDraws: Int
        public var cycle: Cycle
        /// Networks of fge's ensemble at most, over rounds: the oldest go; default 10.
        public var members: Int

        /// - Throws: `invalidInput` for unknown keys, values out of range, or choices that do not go together.
        public init(_ value: JSONValue, schema: Schema) throws(AccrueError) {
            let settings = try SettingsReader(value, known: Self.keys, while: "reading the settings of \(WeightAveraging.name)")
            model = try ModelDeclaration(settings)
            likelihood = try Likelihood(settings, schema: schema)
            posterior = try settings.choice("posterior", default: .point)
            epochs = try settings.whole("epochs", default: 5, in: 1...100_000)
            batch = try settings.whole("batch", default: 128, in: 1...1_000_000)
            learningRate = try settings.number("learningRate", default: 0.05, in: 1e-9...10)
            averagingRate = try settings.number("averagingRate", default: 0.01, in: 0...10)
            momentum = try settings.number("momentum", default: 0.9, in: 0...0.9999)
            weightDecay = try settings.number("weightDecay", default: 0.0005, in: 0...1)
            averageFrom = try settings.number("averageFrom", default: 0.5, in: 0...1)
            collectEvery = try settings.whole("collectEvery", default: 10, in: 1...1_000_000)
            window = settings.has("window") ? try settings.whole("window", default: 1, in: 1...1_000_000_000) : nil
            rank = try settings.whole("rank", default: 20, in: 2...100)
            drawScale = try settings.number("drawScale", default: 1, in: 0...100)
            scoreDraws = try settings.whole("scoreDraws", default: 4, in: 1...Limits.queryDrawsMax)
            let section = try settings.section("cycle", known: ["epochs", "high", "low"])
            cycle = Cycle(
                epochs: try section.whole("epochs", default: 2, in: 2...100_000), high: try section.number("high", default: 0.05, in: 1e-9...10),
                low: try section.number("low", default: 0.01, in: 0...10))
            members = try settings.whole("members", default: 10, in: 1...256)
            try checkBelongings(settings)
            if posterior == .fge { try checkCycle(section) }
            if model.batchNorm, posterior.isGaussian {
                throw settings.refuse(
                    "model.batchNorm", "is true; each draw would need batch statistics of its own, recomputed over training rows that a query does not have",
                    hint: "leave it out, or use posterior point or fge, whose networks are known when a round ends")
            }
        }

        /// Settings of another posterior than the chosen one are refused: they would do nothing.
        private func checkBelongings(_ settings: SettingsReader) throws(AccrueError) {
            let belongings: [(keys: [String], owners: [Posterior])] = [
                (["averagingRate", "collectEvery", "window"], [.point, .swagDiagonal, .swag]), (["drawScale", "scoreDraws"], [.swagDiagonal, .swag]),
                (["rank"], [.swag]), (["cycle", "members"], [.fge]),
            ]
            for (keys, owners) in belongings where !owners.contains(posterior) {
                for key in keys where settings.has(key) {
                    let words = owners.map(\.rawValue).joined(separator: ", ")
                    throw settings.refuse(key, "belongs to posterior \(words), not to \(posterior.rawValue)", hint: "leave it out, or choose another posterior")
                }
            }
        }

        private func checkCycle(_ section: SettingsReader) throws(AccrueError) {
            guard cycle.epochs % 2 == 0 else {
                throw section.refuse("epochs", "is \(cycle.epochs); the lowest rate is in a cycle's middle: it must be even", hint: "use \(cycle.epochs + 1)")
            }
            guard cycle.low <= cycle.high else {
                throw section.refuse("low", "is \(cycle.low), above cycle.high, \(cycle.high)", hint: "give a number from 0 to \(cycle.high)")
            }
            let left = Double(epochs) * (1 - averageFrom)
            guard left + 1e-9 >= Double(cycle.epochs) / 2 else {
                throw section.refuse(
                    "epochs",
                    "is \(cycle.epochs), but \(left) of the round's \(epochs) epochs are left after averageFrom \(averageFrom): no cycle gets to its middle",
                    hint: "raise settings.epochs, or lower averageFrom or cycle.epochs")
            }
        }
    }

    /// - Throws: `invalidInput` when the settings or the schema do not fit.
    public static func make(_ value: JSONValue, _ schema: Schema) throws(AccrueError) -> any OpaqueMethod {
        let model = try AveragingModel(settings: try Settings(value, schema: schema), schema: schema)
        return switch model.settings.posterior {
        case .point: ErasedMethod(PointAverage(model: model))
        case .swagDiagonal, .swag: ErasedMethod(SnapshotGaussian(model: model))
        case .fge: ErasedMethod(GeometricEnsemble(model: model))
        }
    }
}

extension WeightAveraging.Posterior {
    /// Whether weights are drawn.
    var isGaussian: Bool { self == .swagDiagonal || self == .swag }

    /// Whether a file is an export of this posterior; false: a bare network.
    /// - Throws: `invalidInput` for an export of another method, or of another posterior of this one.
    func made(_ imported: Safetensors) throws(AccrueError) -> Bool {
        guard let method = WeightsFromOutside.method(of: imported) else { return false }
        let other = imported.metadata["posterior"] ?? Self.point.rawValue
        guard method == WeightAveraging.name, other == rawValue else {
            let name = WeightAveraging.name
            throw WeightsFromOutside.strange(method == name ? "\(name) with posterior \(other)" : method, needed: "\(name) with posterior \(rawValue)")
        }
        return true
    }
}
