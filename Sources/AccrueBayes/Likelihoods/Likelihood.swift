public import AccrueCore
public import AccrueTensor

/// How targets scatter around a network's outputs. Losses are −log densities in nats.
public enum Likelihood: Equatable, Sendable {
    /// Class numbers; one logit a class.
    case softmax(classes: Int)
    /// 0 or 1; one logit.
    case bernoulli
    /// One real number; `noisePrecision` is known, or learned when nil (the weight `noise.logVariance`).
    case gaussian(noisePrecision: Double?)

    public enum Kind: String, CaseIterable, Sendable { case softmax, bernoulli, gaussian }
    /// The log of the noise variance as a weight among the others, where it is learned.
    public static let logVariance = "noise.logVariance"

    /// From `likelihood: {kind, noisePrecision}` and the schema's target.
    /// - Throws: `invalidInput` when the schema's target does not fit.
    public init(_ settings: SettingsReader, schema: Schema) throws(AccrueError) {
        let section = try settings.section("likelihood", known: ["kind", "noisePrecision"])
        let targets = schema.tensors(.target)
        guard targets.count == 1, let target = targets.first else {
            throw section.refuse("kind", "needs exactly one target in the schema; there are \(targets.count)", hint: "give one tensor 'role: target'")
        }
        guard target.rowElementCount == 1 else {
            throw section.refuse("kind", "needs one target number a row; '\(target.name)' has shape \(target.shape)")
        }
        let kind: Kind = try section.choice("kind", default: target.classes == nil ? .gaussian : .softmax)
        if section.has("noisePrecision"), kind != .gaussian { throw section.refuse("noisePrecision", "belongs to kind gaussian, not to \(kind.rawValue)") }
        switch kind {
        case .softmax:
            guard let classes = target.classes, classes.count >= 2 else {
                throw section.refuse("kind", "is softmax, but target '\(target.name)' has no 'classes'", hint: "list the class names in the schema")
            }
            self = .softmax(classes: classes.count)
        case .bernoulli:
            if let classes = target.classes, classes.count != 2 {
                throw section.refuse("kind", "is bernoulli, but target '\(target.name)' has \(classes.count) classes", hint: "use softmax")
            }
            self = .bernoulli
        case .gaussian:
            self = .gaussian(noisePrecision: section.has("noisePrecision") ? try section.number("noisePrecision", in: 1e-12...1e12) : nil)
        }
    }

    /// Outputs of the network.
    public var outputs: Int { if case .softmax(let classes) = self { classes } else { 1 } }

    /// Weights that the likelihood itself adds to a network's.
    public func ownWeights() throws(AccrueError) -> [(String, Tensor)] {
        self == .gaussian(noisePrecision: nil) ? [(Self.logVariance, try .zeros([]))] : []
    }

    /// −log p(targets | outputs), nats: outputs [rows, outputs], targets [rows].
    public func loss(_ outputs: Tensor, _ targets: Tensor, weights: NamedTensors, _ reduction: Reduction = .mean) throws(AccrueError) -> Tensor {
        switch self {
        case .softmax: return try outputs.crossEntropy(targets, reduction)
        case .bernoulli: return try outputs.reshaped([-1]).binaryCrossEntropy(targets, reduction)
        case .gaussian(let noisePrecision):
            let squares = try (try outputs.reshaped([-1]) - targets).squared()
            let each: Tensor
            if let noisePrecision {
                each = try squares * (0.5 * noisePrecision) + 0.5 * (logarithm(2 * .pi) - logarithm(noisePrecision))
            } else {
                let logVariance = try weights.tensor(Self.logVariance)
                each = try ((try squares * (try logVariance.negated().exp())) + logVariance) * 0.5 + 0.5 * logarithm(2 * .pi)
            }
            switch reduction {
            case .none: return each
            case .mean: return try each.mean()
            case .sum: return try each.sum()
            }
        }
    }

    /// Targets drawn from the model, of the form that `loss` takes.
    public func draw(_ outputs: Tensor, weights: NamedTensors, key: RandomKey) throws(AccrueError) -> Tensor {
        switch self {
        case .softmax: return try key.classes(logits: outputs)
        case .bernoulli:
            let flat = try outputs.reshaped([-1])
            return try (try key.uniform(flat.shape).isBelow(try flat.sigmoid())).cast(to: .f32)
        case .gaussian:
            let flat = try outputs.reshaped([-1])
            return try flat + (try key.normal(flat.shape) * (try noiseVariance(weights)).squareRoot())
        }
    }

    /// The noise variance of a Gaussian likelihood; 0 for others.
    public func noiseVariance(_ weights: NamedTensors) throws(AccrueError) -> Double {
        switch self {
        case .softmax, .bernoulli: return 0
        case .gaussian(let noisePrecision?): return 1 / noisePrecision
        case .gaussian(nil): return try weights.tensor(Self.logVariance).exp().item()
        }
    }
}
