public import AccrueBayes
public import AccrueCore

extension VarianceNetwork {
    /// What makes the named layers random.
    public enum Noise: String, CaseIterable, Sendable {
        /// Weights of mean zero.
        case variance
        /// Ordinary weights, and units that are dropped behind the layer's ReLU.
        case dropout
    }

    /// The `settings` of a pipeline file.
    public struct Settings: Sendable {
        public static let keys = [
            "model", "likelihood", "layers", "noise", "rate", "epochs", "batch", "learningRate", "finalRate", "averageTail", "temperature", "precision", "prior",
            "scoreDraws",
        ]
        public var model: ModelDeclaration
        public var likelihood: Likelihood
        /// Names of the random layers, as `describe` lists them; no default.
        public var layers: [String]
        /// Default variance.
        public var noise: Noise
        /// Chance of a unit to be dropped; default 0.5, for `noise: dropout` alone.
        public var rate: Double
        /// Passes over a round's rows; default 5.
        public var epochs: Int
        /// Rows of a step, over all shards; default 128.
        public var batch: Int
        /// Adam's rate at a round's first step; default 0.001.
        public var learningRate: Double
        /// Share of the rate that is left at a round's last step; default 0.05.
        public var finalRate: Double
        /// Share of a round's steps, its last, whose weights are averaged; default 0.5.
        public var averageTail: Double
        /// T: how much the version before counts, from the second round on; default 0.001. The first round's variances have no prior and are no posterior:
        /// T = 1 would hold them as if each had been seen n times.
        public var temperature: Double
        /// P, precision of ordinary weights around the last version's; default 1,000.
        public var precision: Double
        /// On σ in the first round, where there is no version before; weighed by T. Default none: as in the paper's code, σ is only trained.
        public var prior: VariancePrior?
        /// Draws with which rows are scored before they are learned; default 8.
        public var scoreDraws: Int

        /// - Throws: `invalidInput` for unknown keys, values out of range, or layers that the model does not have.
        public init(_ value: JSONValue, schema: Schema) throws(AccrueError) {
            let settings = try SettingsReader(value, known: Self.keys, while: "reading the settings of \(VarianceNetwork.name)")
            model = try ModelDeclaration(settings)
            likelihood = try Likelihood(settings, schema: schema)
            noise = try settings.choice("noise", default: .variance)
            rate = try settings.number("rate", default: 0.5, in: 0...0.95)
            if settings.has("rate"), noise != .dropout { throw settings.refuse("rate", "belongs to noise dropout, not to \(noise.rawValue)") }
            epochs = try settings.whole("epochs", default: 5, in: 1...100_000)
            batch = try settings.whole("batch", default: 128, in: 1...1_000_000)
            learningRate = try settings.number("learningRate", default: 0.001, in: 1e-9...10)
            finalRate = try settings.number("finalRate", default: 0.05, in: 0...1)
            averageTail = try settings.number("averageTail", default: 0.5, in: 0...1)
            temperature = try settings.number("temperature", default: 0.001, in: 0...1e6)
            precision = try settings.number("precision", default: 1_000, in: 0...1e9)
            prior = try VariancePrior(settings)
            if prior != nil, noise != .variance { throw settings.refuse("prior", "belongs to noise variance, not to \(noise.rawValue)", hint: "leave it out") }
            if prior != nil, temperature == 0 { throw settings.refuse("prior", "has no weight: settings.temperature is 0", hint: "leave it out, or raise temperature") }
            scoreDraws = try settings.whole("scoreDraws", default: 8, in: 1...Limits.queryDrawsMax)
            let network = try model.network(inputShape: Design.inputShape(schema), outputs: likelihood.outputs), known = network.affineLayers.map(\.name)
            layers = try settings.words("layers", known: known)
            if layers.isEmpty { throw settings.refuse("layers", "is empty; nothing would be random", hint: "name some of \(known.joined(separator: ", "))") }
            if let last = known.last, layers.contains(last) {
                throw settings.refuse(
                    "layers", "has the last layer, \(last); of zero-mean weights there, or of dropped outputs, every class would have the same expected logit",
                    hint: "name some of \(known.dropLast().joined(separator: ", "))")
            }
        }
    }
}
