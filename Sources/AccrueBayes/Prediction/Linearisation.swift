import Foundation

/// Outputs taken as linear in the weights around a centre: f(x; m) + J(x) (w − m) in place of f(x; w).
///
/// Draws that fit where the network's outputs are near linear in its weights reach beyond it where the posterior is wide, and then say too little of the
/// data; the Gaussian of a Laplace approximation belongs to the linear model. J (w − m) is found without J: draws are made `step` as wide, and
/// (f(x; m + step · δ) − f(x; m)) / step keeps of what is not linear that share alone. One pass a draw, as without.
/// Source: Immer, Korzepa & Bauer 2021 (arXiv 2008.08216), the GLM predictive; that differences take the place of Jacobians is this project's.
public struct Linearisation: Sendable {
    public static let step = 1.0 / 256
    let centre: PreparedMember

    /// - Parameter centre: m.
    public init(centre: PreparedMember) { self.centre = centre }

    /// What follows for a draw from outputs at `step` of its way.
    static func reached(_ near: Float, from centre: Float) -> Float { centre + (near - centre) * Float(1 / step) }
}

/// Draws that a prediction is made of.
struct PreparedMembers: Sendable {
    let draws: [PreparedMember]
    let linearisation: Linearisation?

    /// All networks that rows go through: the centre first, where there is one.
    var networks: [PreparedMember] { (linearisation.map { [$0.centre] } ?? []) + draws }

    /// Mean of the noise's variance.
    var noise: Double {
        draws.reduce(0) { sum, draw in
            // The logarithm of the variance is a weight: linear in itself.
            let noise = linearisation.map { $0.centre.noise <= 0 ? 0 : $0.centre.noise * pow(draw.noise / $0.centre.noise, 1 / Linearisation.step) } ?? draw.noise
            return sum + noise / Double(draws.count)
        }
    }
}
