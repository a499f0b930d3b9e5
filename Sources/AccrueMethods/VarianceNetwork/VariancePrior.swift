public import AccrueBayes
import AccrueCore
import AccrueTensor

/// A proper prior of weights whose mean is zero: without one nothing holds the scale of their variances in the first round.
///
/// Source: the Bayesian variants of Neklyudov et al. 2019 (arXiv 1803.03764); that Student's t is among them is from memory. Under the log-uniform and ARD
/// priors the divergence of a zero-mean Gaussian is 0 whatever its variance, so those are no choice here.
public enum VariancePrior: Sendable {
    /// N(0, σ₀²).
    case normal(deviation: Double)
    /// Student's t of unit scale.
    case student(degrees: Double, rule: EvenNormalRule)

    enum Kind: String, CaseIterable { case none, normal, student }

    /// Section `prior` of the settings: kind (none, the default; normal; student), deviation of normal (default 1), degrees of student (default 3).
    /// - Throws: `invalidInput` for unknown keys, values out of range, or a number that belongs to another kind.
    init?(_ settings: SettingsReader) throws(AccrueError) {
        let section = try settings.section("prior", known: ["kind", "deviation", "degrees"]), kind = try section.choice("kind", default: Kind.none)
        for (key, owner) in [("deviation", Kind.normal), ("degrees", .student)] where section.has(key) && kind != owner {
            throw section.refuse(key, "belongs to kind \(owner.rawValue), not to \(kind.rawValue)", hint: "leave it out")
        }
        switch kind {
        case .none: return nil
        case .normal: self = .normal(deviation: try section.number("deviation", default: 1, in: 1e-6...1e6))
        case .student: self = .student(degrees: try section.number("degrees", default: 3, in: 0.1...1e6), rule: EvenNormalRule())
        }
    }

    /// Divergence of N(0, σ²) from it, element by element, nats.
    func divergence(_ variance: Tensor) throws(AccrueError) -> Tensor {
        switch self {
        case .normal(let deviation): try KullbackLeibler.zeroMean(variance, from: try .full(variance.shape, deviation * deviation, dtype: variance.dtype))
        case .student(let degrees, let rule): try KullbackLeibler.zeroMean(variance, fromStudent: degrees, rule: rule)
        }
    }
}
