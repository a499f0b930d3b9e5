import AccrueCore
public import AccrueTensor

/// The questions `sparsity` and `export`, as all methods that switch weights off answer them.
///
/// `sparsity`, header: optional `threshold`, another one than the method's. Answer: `SparsityReport.header`. `export`, header: `form` (`compact`, the default, or
/// `csr`), optional `threshold`. Answer: the pruned network's tensors, and in the header what they are: see `PrunedNetwork`.
public struct SparsityQuery: Sendable {
    private let network: Network
    private let weights: NamedTensors
    private let logAlpha: NamedTensors
    private let threshold: Double

    /// - Parameters:
    ///   - weights: before pruning.
    ///   - logAlpha: of every layer's weight, by its name.
    public init(network: Network, weights: NamedTensors, logAlpha: NamedTensors, threshold: Double) {
        self.network = network
        self.weights = weights
        self.logAlpha = logAlpha
        self.threshold = threshold
    }

    /// By verb, for `NetworkPosterior`.
    public var verbs: [String: NetworkPosterior.Verb] {
        ["sparsity": { (query, _) throws(AccrueError) in try sparsity(query) }, "export": { (query, _) throws(AccrueError) in try export(query) }]
    }

    private func sparsity(_ query: QueryBytes) throws(AccrueError) -> QueryBytes {
        let threshold = try threshold(query, known: ["threshold"])
        return QueryBytes(verb: query.verb, header: try SparsityReport(network, logAlpha: logAlpha, threshold: threshold).header)
    }

    private func export(_ query: QueryBytes) throws(AccrueError) -> QueryBytes {
        let threshold = try threshold(query, known: ["threshold", "form"])
        let words = PrunedNetwork.Form.allCases.map(\.rawValue)
        let word = query.header["form"] ?? .string(PrunedNetwork.Form.compact.rawValue)
        guard let form = word.string.flatMap(PrunedNetwork.Form.init) else {
            throw AccrueError(.invalidInput, while: "answering 'export'", "'form' is \(word.canonical)", hint: "choose one of \(words.joined(separator: ", "))")
        }
        let report = try SparsityReport(network, logAlpha: logAlpha, threshold: threshold)
        let pruned = try LogAlpha.pruned(weights, logAlpha, threshold: threshold)
        let (tensors, header) = try PrunedNetwork.export(network, pruned, form: form)
        return QueryBytes(verb: query.verb, header: .object(report.summary.merging(header) { $1 }), tensors: tensors)
    }

    private func threshold(_ query: QueryBytes, known: [String]) throws(AccrueError) -> Double {
        let operation = "answering '\(query.verb)'"
        try StrictKeys.check(query.header, known: known, while: operation)
        guard query.tensors.isEmpty else { throw AccrueError(.invalidInput, while: operation, "the question has tensors; it needs none", hint: "leave --tensor out") }
        guard let asked = query.header["threshold"], asked != .null else { return threshold }
        guard let number = asked.double, number.isFinite else { throw AccrueError(.invalidInput, while: operation, "'threshold' is \(asked.canonical); it must be a number") }
        return number
    }
}
