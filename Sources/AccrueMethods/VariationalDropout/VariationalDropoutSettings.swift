public import AccrueBayes
public import AccrueCore

extension VariationalDropout {
    /// What makes weights zero.
    public enum Penalty: String, CaseIterable, Sendable {
        /// Empirical Bayes: every weight's prior precision is the one that the evidence bound likes best (the default).
        case ard
        /// The same under a Gamma prior of the precisions, `gamma`.
        case hierarchical
        /// The log-uniform prior of sparse variational dropout.
        case variationalDropout
    }

    /// Which weights share a prior precision.
    public enum Group: String, CaseIterable, Sendable {
        /// Each has its own (the default).
        case weight
        /// Those into one neuron, or of one filter.
        case output
        /// Those out of one input, or one input channel.
        case input
    }

    /// How what a round's rows say of a weight is measured, for the rounds after it.
    public enum Curvature: String, CaseIterable, Sendable {
        /// The Gauss–Newton matrix's diagonal at draws of the weights (the default).
        case gaussNewton
        /// Twice the gradient of the noisy loss by the variance: unbiased, and itself noisy.
        case noisy
    }

    /// The `settings` of a pipeline file.
    public struct Settings: Sendable {
        public static let keys = [
            "model", "likelihood", "penalty", "gamma", "group", "threshold", "warmUp", "epochs", "batch", "learningRate", "decayFrom", "finalRate", "initialScale",
            "curvature", "curvatureRows", "keep", "reservoir", "closedForm",
        ]
        public var model: ModelDeclaration
        public var likelihood: Likelihood
        /// As the layers use it.
        public var penalty: SparsityPenalty
        public var kind: Penalty
        public var group: Group
        /// Weights with log α from here on are zero in every answer; default 3: noise that is 4.5 times the mean.
        public var threshold: Double
        /// Shares of the first round's epochs: the penalty's weight is 0 until `from`, then grows to 1 at `to`; default 0 and 0.5.
        public var warmUpFrom: Double
        public var warmUpTo: Double
        /// Rows, over all rounds, with which the penalty's weight grows to 1: what a prior fitted to few rows has killed rarely comes back. Default 0: it is 1 after the first
        /// round's warm-up. As many as are to come in all give every round the balance between data and penalty that all of them at once would have.
        public var warmUpRows: Int
        /// Passes over a round's rows; default 20.
        public var epochs: Int
        /// Rows of a step, over all shards; default 100.
        public var batch: Int
        /// Adam's rate; default 0.001.
        public var learningRate: Double
        /// Share of a round's steps after which the rate falls, in a straight line; default 0.5.
        public var decayFrom: Double
        /// Share of the rate that is left at a round's last step; default 0.
        public var finalRate: Double
        /// Standard deviation of every weight at first; default 0.0067, whose log variance is −10.
        public var initialScale: Double
        public var curvature: Curvature
        /// Rows a round from which the Gauss–Newton matrix is estimated; default 1,000.
        public var curvatureRows: Int
        /// κ: share of what rounds before said of the weights that is kept, a round; default 1, no forgetting.
        public var keep: Double
        /// Rows that are kept to be learned again.
        var reservoir: Replay.Settings
        /// Whether a version's weights are the best ones for all that was said of each weight by itself: exact for orthogonal inputs, for any shards. Default: whether
        /// the model is linear, its noise Gaussian and no prior shared.
        public var closedForm: Bool

        /// - Throws: `invalidInput` for unknown keys, values out of range, or choices that do not go together.
        public init(_ value: JSONValue, schema: Schema) throws(AccrueError) {
            let settings = try SettingsReader(value, known: Self.keys, while: "reading the settings of \(VariationalDropout.name)")
            model = try ModelDeclaration(settings)
            likelihood = try Likelihood(settings, schema: schema)
            if model.batchNorm { throw settings.refuse("model.batchNorm", "is true; batch statistics have no sites", hint: "leave it out, or use WeightAveraging") }
            kind = try settings.choice("penalty", default: .ard)
            group = try settings.choice("group", default: .weight)
            penalty = try Self.penalty(kind, settings, group: group)
            threshold = try settings.number("threshold", default: 3, in: -20...20)
            let warmUp = try settings.section("warmUp", known: ["from", "to", "rows"])
            warmUpFrom = try warmUp.number("from", default: 0, in: 0...1)
            warmUpTo = try warmUp.number("to", default: max(0.5, warmUpFrom), in: 0...1)
            guard warmUpFrom <= warmUpTo else { throw warmUp.refuse("to", "is \(warmUpTo), which is before 'from', \(warmUpFrom)", hint: "give shares of the epochs in order") }
            warmUpRows = try warmUp.whole("rows", default: 0, in: 0...1_000_000_000)
            epochs = try settings.whole("epochs", default: 20, in: 1...100_000)
            batch = try settings.whole("batch", default: 100, in: 1...1_000_000)
            learningRate = try settings.number("learningRate", default: 0.001, in: 1e-9...10)
            decayFrom = try settings.number("decayFrom", default: 0.5, in: 0...1)
            finalRate = try settings.number("finalRate", default: 0, in: 0...1)
            initialScale = try settings.number("initialScale", default: 0.0067, in: 1e-5...1)
            curvature = try settings.choice("curvature", default: .gaussNewton)
            curvatureRows = try settings.whole("curvatureRows", default: 1_000, in: 1...10_000_000)
            if settings.has("curvatureRows"), curvature == .noisy { throw settings.refuse("curvatureRows", "belongs to curvature gaussNewton, not to noisy", hint: "leave it out") }
            keep = try settings.number("keep", default: 1, in: 1e-6...1)
            reservoir = try Replay.Settings(settings)
            var isGaussian = false
            if case .gaussian = likelihood { isGaussian = true }
            let canSolve = model.kind == .linear && isGaussian && group == .weight
            closedForm = try settings.flag("closedForm", default: canSolve)
            if closedForm, reservoir.rows > 0 {
                throw settings.refuse("reservoir.rows", "is \(reservoir.rows); with closedForm a version's weights follow from sites alone", hint: "leave reservoir out, or set closedForm: false")
            }
            if closedForm, !canSolve {
                throw settings.refuse("closedForm", "is true, which needs model linear, likelihood gaussian and group weight", hint: "leave it out")
            }
        }

        private static func penalty(_ kind: Penalty, _ settings: SettingsReader, group: Group) throws(AccrueError) -> SparsityPenalty {
            if settings.has("gamma"), kind != .hierarchical { throw settings.refuse("gamma", "belongs to penalty hierarchical, not to \(kind.rawValue)", hint: "leave it out") }
            switch kind {
            case .ard: return .automaticRelevance
            case .variationalDropout:
                if group != .weight { throw settings.refuse("group", "is \(group.rawValue); the log-uniform prior has nothing to share", hint: "use penalty ard or hierarchical") }
                return .logUniform
            case .hierarchical:
                let section = try settings.section("gamma", known: ["shape", "rate", "estimator"])
                let gamma = GammaPrior(
                    shape: try section.number("shape", default: 0.25, in: 1e-6...1e6), rate: try section.number("rate", default: 1e-6, in: 1e-12...1e6),
                    estimator: try section.choice("estimator", default: .meanField))
                if gamma.exponent(members: 1) <= 0 {
                    throw section.refuse("shape", "is \(gamma.shape); the mode of the precision exists only above 0.5", hint: "raise it, or use estimator meanField or modeOfLogPrecision")
                }
                return .hierarchical(gamma)
            }
        }

        /// The dimensions over which weights of this layer share a prior.
        func shared(_ layer: Layer.Affine) -> [Int] {
            let last = layer.weightShape.count
            return switch group {
            case .weight: []
            case .output: Array(1..<last)
            case .input: [0] + Array(2..<last)
            }
        }
    }
}
