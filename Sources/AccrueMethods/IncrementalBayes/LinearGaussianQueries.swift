import AccrueBayes
import AccrueCore
import Foundation

/// A linear-Gaussian posterior ready for queries: `describe` and `predict`, both without draws.
struct LoadedLinear: LoadedState {
    private let method: LinearGaussianPosterior
    private let mean: [Double]
    private let covariance: SymmetricMatrix
    private let precision: [Double]

    init(method: LinearGaussianPosterior, state: LinearGaussianPosterior.State) throws(AccrueError) {
        try method.check(state)
        self.method = method
        precision = Array(state.natural.dropLast(state.features))
        if state.isFull {
            let gaussian = method.full(state.natural)
            mean = try gaussian.mean()
            covariance = try gaussian.covariance()
        } else {
            let gaussian = method.diagonal(state.natural)
            mean = gaussian.mean
            covariance = SymmetricMatrix(diagonal: gaussian.variance)
        }
    }

    /// Mean xᵀm, noise variance 1/β and weight variance xᵀΣx, row by row.
    /// - Throws: `diverged` when one of a row is not finite.
    func predictions(_ rows: Rows) throws(AccrueError) -> [RegressionPrediction] {
        let inputs = try method.inputs(rows), width = method.features
        let predictions = (0..<rows.count).map { row in
            let x = Array(inputs[row * width..<(row + 1) * width])
            let dot = zip(x, mean).reduce(0) { $0 + $1.0 * $1.1 }
            let spread = zip(x, covariance.times(x)).reduce(0) { $0 + $1.0 * $1.1 }
            return method.targetScale.own(
                RegressionPrediction(mean: dot, aleatoricVariance: 1 / method.noisePrecision, epistemicVariance: spread < 0 ? 0 : spread))
        }
        if let row = predictions.firstIndex(where: { !$0.isFinite }) {
            throw AccrueError(.diverged, while: "predicting", "what is predicted for row \(row) is not finite", hint: "look for inputs of another scale than those that were learned")
        }
        return predictions
    }

    func answer(_ query: QueryBytes, key: RandomKey) throws(AccrueError) -> QueryBytes {
        switch query.verb {
        case "describe":
            let size = method.features
            func matrix(_ elements: [Double]) -> JSONValue {
                guard elements.count == size * size, size > 1 || method.settings.family == .full else { return .array(elements.map { .number($0) }) }
                return .array((0..<size).map { row in .array(elements[row * size..<(row + 1) * size].map { .number($0) }) })
            }
            return QueryBytes(
                verb: query.verb,
                header: .object([
                    "method": .string(IncrementalBayes.name), "inference": .string("variational"), "family": .string(method.settings.family.rawValue),
                    "parameters": .integer(size), "mean": .array(mean.map { .number($0) }), "precision": matrix(precision), "covariance": matrix(covariance.elements),
                ]))
        case PredictQuery.verb:
            let request = try PredictQuery.read(query, schema: method.schema)
            let predictions = Predictions.numbers(try predictions(request.rows))
            // The answer is in closed form: no draws at all.
            return PredictQuery.answer(predictions, request: request, draws: 0, targets: request.hasTargets ? try method.targets(request.rows) : nil)
        default: throw PredictQuery.unknown(query.verb, known: ["describe", PredictQuery.verb])
        }
    }
}
