public import AccrueCore

/// How a target's own units and the numbers that a model learns belong together: y = slope · z + offset, the inverse of the schema's transform.
///
/// Models learn z, and precisions of noise are in its units; predictions, scores and errors are in the target's own.
public struct TargetScale: Equatable, Sendable {
    public let slope: Double
    public let offset: Double

    public static let identity = TargetScale(slope: 1, offset: 0)

    private init(slope: Double, offset: Double) {
        self.slope = slope
        self.offset = offset
    }

    /// From the target's declared transform; the identity without one.
    /// - Throws: `invalidInput` for a transform of classes, of several numbers, or one that cannot be inverted.
    public init(_ target: TensorSchema, likelihood: Likelihood) throws(AccrueError) {
        guard let transform = target.transform else { self = .identity; return }
        let scale = transform.scale ?? 1, deviation = transform.standardDeviation ?? [1], mean = transform.mean ?? [0]
        func refuse(_ problem: String, _ hint: String) -> AccrueError { AccrueError(.invalidInput, while: "reading the schema", problem, hint: hint) }
        guard case .gaussian = likelihood else { throw refuse("target '\(target.name)' of classes has a transform", "leave the transform out") }
        guard deviation.count == 1, mean.count == 1, deviation[0] > 0, scale != 0, scale.isFinite, mean[0].isFinite else {
            throw refuse(
                "the transform of target '\(target.name)' is scale \(scale), mean \(mean), standardDeviation \(deviation)",
                "give a scale other than 0, one mean and one standardDeviation above 0")
        }
        self.init(slope: deviation[0] / scale, offset: mean[0] / scale)
    }

    /// What a model learns of a target.
    public func learned(_ target: Double) -> Double { (target - offset) / slope }

    /// A prediction of z as one of y.
    public func own(_ prediction: RegressionPrediction) -> RegressionPrediction {
        RegressionPrediction(
            mean: slope * prediction.mean + offset, aleatoricVariance: slope * slope * prediction.aleatoricVariance,
            epistemicVariance: slope * slope * prediction.epistemicVariance)
    }
}
