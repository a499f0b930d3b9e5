public import AccrueBayes
public import AccrueCore

/// Bayesian incremental learning: the posterior after one part of the data is the prior for the next, p(w | D₁…ₜ) ∝ p(Dₜ | w) · p(w | D₁…ₜ₋₁).
///
/// Source: Kochurov, Garipov, Podoprikhin, Molchanov, Ashukha & Vetrov, "Bayesian incremental learning for deep neural networks" (ICLR 2018 workshop,
/// arXiv 1802.07329). The online Laplace recipe, its temperature and its sweeps are this project's.
///
/// What is exact in its merge: `family: full` of linear-Gaussian models in closed form wholly, for any shards; precisions of `family: diagonal`; the Fisher
/// sums of `laplace` (of `family: lowRank` their diagonals, of `kronecker` their factors), and the sum of what the shards of `naturalGradient` find of the
/// precision. What is not: the mean of a diagonal variational posterior over several shards after one sweep (more sweeps lead to the global optimum), and
/// averaged weights of networks.
public enum IncrementalBayes {
    public static let name = "IncrementalBayes"

    /// How a network's posterior is found.
    public enum Inference: String, CaseIterable, Sendable {
        /// Trains the mean without noise; precisions by the Fisher information (online Laplace; the default).
        case laplace
        /// Mean-field variational inference with local reparameterisation; closed form for linear-Gaussian models.
        case variational
        /// Mean-field variational inference by natural-gradient steps at one draw of the weights each (online Newton).
        case naturalGradient
    }

    /// The form of the posterior.
    public enum Family: String, CaseIterable, Sendable {
        /// Independent weights (the default).
        case diagonal
        /// Laplace only: full precision inside each convolution kernel; all other weights independent.
        case channel
        /// Laplace only: a layer's weights and biases together, as the Kronecker product of what goes in and of the slopes of what comes out.
        case kronecker
        /// Laplace only: precision D + W Wᵀ with `rank` columns over all weights.
        case lowRank
        /// Laplace only: full precision over the last layer's weights; all other weights independent.
        case lastLayer
        /// All covariances: linear-Gaussian models in closed form, and small networks under laplace.
        case full
    }

    /// What draws of the weights become for a prediction.
    public enum Predictive: String, CaseIterable, Sendable {
        /// The network's outputs at the drawn weights (the default).
        case draws
        /// Laplace only: those of the network made linear in its weights around the mean.
        case linearised
    }

    /// The `settings` of a pipeline file.
    public struct Settings: Sendable {
        public static let keys = [
            "model", "likelihood", "prior", "inference", "family", "rank", "epochs", "batch", "learningRate", "finalRate", "temperature", "keep", "fisherRows",
            "fisherScale", "drawScale", "predictive", "scoreDraws", "averageTail", "initialScale", "damping", "keepOnDrift", "driftThreshold", "reservoir",
            "stepMax", "momentum", "hessianMomentum", "initialHessian", "labelShift",
        ]
        public var model: ModelDeclaration
        public var likelihood: Likelihood
        /// Precision of the prior N(0, 1/precision) of a weight, on the learned (transformed) scale; default 1.
        public var priorPrecision: Double
        /// Whether the precision is multiplied by a weight's fan-in; default true for networks, false for `linear`.
        public var priorPerFanIn: Bool
        public var inference: Inference
        public var family: Family
        /// Columns of `family: lowRank`; default 16.
        public var rank: Int
        /// Passes over a round's rows; nil (the default): 5, or as many as make 200 steps, which rounds of few rows need.
        public var epochs: Int?
        /// Rows of a step, over all shards; default 128.
        public var batch: Int
        /// Rate at a round's first step: Adam's, default 0.003; of naturalGradient, the share of a Newton step, default 0.1.
        public var learningRate: Double
        /// Share of the rate that is left at a round's last step; default 0.05.
        public var finalRate: Double
        /// T of the power likelihood p(D | w)^(1/T), of every part alike; default 1 where the posterior is what the mathematics says (linear models, variational
        /// inference, networks made linear), and 0.1 for draws of networks: their curvature, of independent weights or layers, holds the mean at T 1 so tightly that
        /// later parts hardly move it, and how wide draws are is fitted apart.
        public var temperature: Double
        /// κ: share of the last posterior's precision that is kept, the rest comes from the first prior; default 1, no forgetting.
        public var keep: Double
        /// Rows a round from which the Fisher information is estimated; default 1,000.
        public var fisherRows: Int
        /// λ: how many times a round's Fisher information counts in its precision (Ritter, Botev & Barber 2018, arXiv 1805.07810, choose it by validation); default
        /// 1. At weights that fit their rows well it says less of the loss farther away than is true, so that later parts pull the mean off too easily: more
        /// holds what was learned, and makes draws as much narrower.
        public var fisherScale: Double
        /// Draws use standard deviations times this; nil, `fitted` (the default of laplace): from one version to the next, the scale moves to where rows that
        /// are scored before they are learned have the highest predictive density. Default 1 for the other kinds of inference; variational has no `fitted`.
        public var drawScale: Double?
        /// Default draws.
        public var predictive: Predictive
        /// Draws with which rows are scored before they are learned; default 4.
        public var scoreDraws: Int
        /// Share of a round's steps, its last, whose weights are averaged into the mean; default 0.5.
        public var averageTail: Double
        /// Standard deviation of every weight at the start of variational inference; default 0.02.
        public var initialScale: Double
        /// ρ: how far sites move in sweeps after the first; default 1.
        public var damping: Double
        /// κ of a round whose rows, scored before they were learned, tell of a drift; default `keep`.
        public var keepOnDrift: Double
        /// z-score, in standard errors, from which a round counts as drift; default 4.
        public var driftThreshold: Double
        /// Rows that are kept to be learned again.
        var reservoir: Replay.Settings
        /// Whether classes come in proportions that differ from part to part (see `LabelShift`); default false.
        public var labelShift: Bool
        /// The longest step of a weight in naturalGradient, at a round's first step; it falls as the rate does. Default 0.001.
        public var stepMax: Double
        /// β₁ of naturalGradient: momentum of the gradient; default 0.9.
        public var momentum: Double
        /// β₂ of naturalGradient: momentum of the Hessian; default nil, at which the Hessian remembers 20/T passes over a round's rows.
        public var hessianMomentum: Double?
        /// A row's Hessian before the first round's first step, nats a squared weight; nil, `fisher` (the default): the Fisher information of `fisherRows` rows
        /// at the random first weights. Later rounds start at that of their own rows at the last mean.
        public var initialHessian: Double?

        /// - Throws: `invalidInput` for unknown keys, values out of range, or choices that do not go together.
        public init(_ value: JSONValue, schema: Schema) throws(AccrueError) {
            let operation = "reading the settings of \(IncrementalBayes.name)"
            let settings = try SettingsReader(value, known: Self.keys, while: operation)
            model = try ModelDeclaration(settings)
            likelihood = try Likelihood(settings, schema: schema)
            let prior = try settings.section("prior", known: ["precision", "perFanIn"])
            priorPrecision = try prior.number("precision", default: 1, in: 1e-9...1e9)
            priorPerFanIn = try prior.flag("perFanIn", default: model.kind != .linear)
            inference = try settings.choice("inference", default: .laplace)
            family = try settings.choice("family", default: .diagonal)
            rank = try settings.whole("rank", default: 16, in: 1...64)
            if settings.has("rank"), family != .lowRank {
                throw settings.refuse("rank", "belongs to family lowRank, not to \(family.rawValue)", hint: "leave it out, or use family lowRank")
            }
            epochs = settings.has("epochs") ? try settings.whole("epochs", in: 1...100_000) : nil
            batch = try settings.whole("batch", default: 128, in: 1...1_000_000)
            learningRate = try settings.number("learningRate", default: inference == .naturalGradient ? 0.1 : 0.003, in: 1e-9...10)
            finalRate = try settings.number("finalRate", default: 0.05, in: 0...1)
            keep = try settings.number("keep", default: 1, in: 1e-6...1)
            fisherRows = try settings.whole("fisherRows", default: 1_000, in: 1...10_000_000)
            fisherScale = try settings.number("fisherScale", default: 1, in: 1e-3...1e3)
            let isFitted = settings.has("drawScale") ? settings.text("drawScale") == Self.fitted : inference == .laplace
            drawScale = isFitted ? nil : try settings.number("drawScale", default: 1, in: 0...100)
            if isFitted, inference == .variational {
                throw settings.refuse("drawScale", "is fitted, which inference variational does not have", hint: "give a number from 0 to 100")
            }
            predictive = try settings.choice("predictive", default: .draws)
            if predictive != .draws, inference != .laplace {
                throw settings.refuse("predictive", "is \(predictive.rawValue), which belongs to inference laplace", hint: "leave it out, or use inference laplace")
            }
            let isDrawnNetwork = model.kind != .linear && inference != .variational && predictive == .draws
            temperature = try settings.number("temperature", default: isDrawnNetwork ? 0.1 : 1, in: 1e-6...1e6)
            scoreDraws = try settings.whole("scoreDraws", default: 4, in: 1...Limits.queryDrawsMax)
            averageTail = try settings.number("averageTail", default: 0.5, in: 0...1)
            initialScale = try settings.number("initialScale", default: 0.02, in: 1e-5...10)
            damping = try settings.number("damping", default: 1, in: 0.01...1)
            keepOnDrift = try settings.number("keepOnDrift", default: keep, in: 1e-6...1)
            driftThreshold = try settings.number("driftThreshold", default: 4, in: 0.5...1_000)
            reservoir = try Replay.Settings(settings)
            labelShift = try settings.flag("labelShift", default: false)
            if labelShift, case .softmax = likelihood {} else if labelShift {
                throw settings.refuse("labelShift", "is true, which needs classes", hint: "leave it out, or use likelihood softmax")
            }
            stepMax = try settings.number("stepMax", default: 0.001, in: 1e-9...1e9)
            momentum = try settings.number("momentum", default: 0.9, in: 0...0.9999)
            hessianMomentum = settings.has("hessianMomentum") ? try settings.number("hessianMomentum", in: 0...0.99999999) : nil
            let isFisher = !settings.has("initialHessian") || settings.text("initialHessian") == Self.fisher
            initialHessian = isFisher ? nil : try settings.number("initialHessian", in: 1e-9...1e6)
            for (keys, owners) in Self.owned where !owners.contains(inference) {
                for key in keys where settings.has(key) {
                    let words = owners.map(\.rawValue).joined(separator: " or ")
                    throw settings.refuse(key, "belongs to inference \(words)", hint: "leave it out, or use inference \(words)")
                }
            }
            if model.batchNorm {
                throw settings.refuse("model.batchNorm", "is true; batch statistics have no posterior", hint: "leave it out, or use WeightAveraging")
            }
            if family != .diagonal, inference != .laplace, !(family == .full && isClosedForm) {
                throw settings.refuse(
                    "family", "is \(family.rawValue), which inference \(inference.rawValue) does not have for this model",
                    hint: "use inference laplace or family diagonal; family full is also for model linear, likelihood gaussian with a noisePrecision")
            }
        }

        private static let fitted = "fitted", fisher = "fisher"
        /// Settings that belong to some kinds of inference alone.
        private static let owned: [(keys: [String], owners: [Inference])] = [
            (["keepOnDrift", "driftThreshold"], [.laplace, .naturalGradient]),
            // Under naturalGradient the Hessian of kept rows would count beside the precision that they already gave.
            (["reservoir", "labelShift", "fisherScale"], [.laplace]), (["stepMax", "momentum", "hessianMomentum", "initialHessian"], [.naturalGradient]),
            (["initialScale", "damping"], [.variational]),
        ]

        /// A linear model with known Gaussian noise: everything is known in closed form.
        var isClosedForm: Bool {
            guard model.kind == .linear, inference == .variational, [.diagonal, .full].contains(family), case .gaussian(.some) = likelihood else { return false }
            return true
        }
    }

    /// - Throws: `invalidInput` when the settings or the schema do not fit.
    public static func make(_ value: JSONValue, _ schema: Schema) throws(AccrueError) -> any OpaqueMethod {
        let settings = try Settings(value, schema: schema)
        if settings.isClosedForm {
            return ErasedMethod(try LinearGaussianPosterior(settings: settings, schema: schema))
        }
        let network = try settings.model.network(inputShape: Design.inputShape(schema), outputs: settings.likelihood.outputs)
        let design = try Design(schema: schema, network: network, likelihood: settings.likelihood)
        let model = IncrementalModel(settings: settings, schema: schema, network: network, design: design)
        return switch settings.inference {
        case .laplace: ErasedMethod(try OnlineLaplace(model: model))
        case .variational: ErasedMethod(MeanField(model: model))
        case .naturalGradient: ErasedMethod(NaturalGradient(model: model))
        }
    }
}
