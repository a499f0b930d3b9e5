public import AccrueCore
public import AccrueTensor

/// What members say about rows, row by row.
public enum Predictions: Sendable {
    case classes([ClassPrediction])
    case numbers([RegressionPrediction])

    /// - Throws: `invalidInput` for no members; `diverged` when an output is not finite.
    init(_ rows: DesignRows, network: Network, likelihood: Likelihood, members: PreparedMembers) throws(AccrueError) {
        var classes: [ClassPrediction] = [], numbers: [RegressionPrediction] = []
        for start in stride(from: 0, to: rows.count, by: DrawnOutputs.rowsAtOnce) {
            let inputs = try rows.inputs(start..<min(rows.count, start + DrawnOutputs.rowsAtOnce))
            let outputs = try DrawnOutputs(inputs, ofQuestion: rows.count, network: network, members: members)
            switch try Predictions(outputs, 0..<outputs.rows, rows, likelihood: likelihood, members: members) {
            case .classes(let some): classes += some
            case .numbers(let some): numbers += some
            }
        }
        if case .gaussian = likelihood { self = .numbers(numbers) } else { self = .classes(classes) }
    }

    /// Of some of the rows of outputs.
    /// - Parameter rows: that they belong to, for their target's scale.
    /// - Throws: `invalidInput` for no members; `diverged` when an output of these rows is not finite.
    init(_ outputs: DrawnOutputs, _ range: Range<Int>, _ rows: DesignRows, likelihood: Likelihood, members: PreparedMembers) throws(AccrueError) {
        guard !members.draws.isEmpty else { throw AccrueError(.invalidInput, while: "predicting", "there are no draws", hint: "use at least one draw") }
        try outputs.checkFinite(range)
        switch likelihood {
        case .softmax: self = .classes(range.map { ClassPrediction(outputs, row: $0, isBinary: false) })
        case .bernoulli: self = .classes(range.map { ClassPrediction(outputs, row: $0, isBinary: true) })
        case .gaussian:
            let noise = members.noise
            self = .numbers(range.map { rows.targetScale.own(RegressionPrediction(outputs, row: $0, noise: noise)) })
        }
    }

    /// Of rows whose inputs were changed.
    /// - Parameters:
    ///   - inputs: the rows of `range`, as the network reads them; at most 250.
    ///   - rows: that they were made of.
    public init(
        _ inputs: Tensor, of rows: DesignRows, _ range: Range<Int>, network: Network, likelihood: Likelihood, members: [PreparedMember]
    ) throws(AccrueError) {
        let members = PreparedMembers(draws: members, linearisation: nil)
        self = try Predictions(try DrawnOutputs(inputs, network: network, members: members), 0..<range.count, rows, likelihood: likelihood, members: members)
    }

    /// The rows' score against their targets [rows] (class numbers or numbers).
    public func score(_ targets: [Double]) -> Score {
        var score = Score()
        switch self {
        case .classes(let predictions): for (prediction, target) in zip(predictions, targets) { score.add(prediction, target: Int(target)) }
        case .numbers(let predictions): for (prediction, target) in zip(predictions, targets) { score.add(prediction, target: target) }
        }
        return score
    }

    /// Named tensors for an answer: `probabilities` [rows, classes], `totalEntropy`, `aleatoric`, `epistemic` (nats); or `mean`, `aleatoric`,
    /// `epistemic` (standard deviations), `lower`, `upper` (central 90 % interval).
    public var tensors: [String: TensorBytes] {
        func column(_ values: [Double]) -> TensorBytes { TensorBytes(values, shape: [values.count]) }
        switch self {
        case .classes(let rows):
            return [
                "probabilities": TensorBytes(rows.flatMap(\.probabilities), shape: [rows.count, rows.first?.probabilities.count ?? 0]),
                "totalEntropy": column(rows.map(\.totalEntropy)), "aleatoric": column(rows.map(\.expectedEntropy)),
                "epistemic": column(rows.map(\.mutualInformation)),
            ]
        case .numbers(let rows):
            return [
                "mean": column(rows.map(\.mean)), "aleatoric": column(rows.map { $0.aleatoricVariance.squareRoot() }),
                "epistemic": column(rows.map { $0.epistemicVariance.squareRoot() }), "lower": column(rows.map(\.interval.lowerBound)),
                "upper": column(rows.map(\.interval.upperBound)),
            ]
        }
    }

    /// What can be said of the rows together without their targets.
    public var summary: [String: JSONValue] {
        switch self {
        case .classes(let rows):
            let n = Double(max(1, rows.count))
            return [
                "meanTotalEntropy": .number(rows.reduce(0) { $0 + $1.totalEntropy } / n),
                "meanEpistemic": .number(rows.reduce(0) { $0 + $1.mutualInformation } / n),
            ]
        case .numbers(let rows): return ["meanEpistemic": .number(rows.reduce(0) { $0 + $1.epistemicVariance } / Double(max(1, rows.count)))]
        }
    }
}
