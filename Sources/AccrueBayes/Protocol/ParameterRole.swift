public import AccrueCore

/// What a tensor of a state is to whoever reads it: a word that an export carries for each of its tensors.
///
/// A method whose tensors are something else adds its own word in its own folder.
public struct ParameterRole: Hashable, Sendable {
    public let word: String
    public init(_ word: String) { self.word = word }

    /// What predictions centre on: a posterior's mean, or averaged weights.
    public static let mean = ParameterRole("mean")
    /// Inverse variances, or an inverse covariance matrix.
    public static let precision = ParameterRole("precision")
    /// Precision times mean: with the precision, the natural parameters of a Gaussian.
    public static let precisionMean = ParameterRole("precision times mean")
    /// Natural logarithms of standard deviations.
    public static let logDeviation = ParameterRole("log standard deviation")
    /// Mean or variance of what flows into a batch norm.
    public static let batchStatistic = ParameterRole("batch statistic")
    /// Rows of the data that are kept to be learned again.
    public static let keptRows = ParameterRole("kept rows")
    /// Where learning goes on from; no answer is made of it.
    public static let optimiser = ParameterRole("optimiser")
}

extension Safetensors {
    /// The same, with the role of every tensor in the metadata: under `roles`, a JSON object from tensor to word.
    /// - Parameter roles: by a tensor's name, or by what stands before its first dot.
    public func saying(roles: [String: ParameterRole]) -> Safetensors {
        var words: [String: JSONValue] = [:]
        for name in tensors.keys {
            guard let role = roles[name] ?? roles[String(name.prefix { $0 != "." })] else { preconditionFailure("tensor '\(name)' of a state has no role") }
            words[name] = .string(role.word)
        }
        var result = self
        result.metadata["roles"] = JSONValue.object(words).canonical
        return result
    }
}
