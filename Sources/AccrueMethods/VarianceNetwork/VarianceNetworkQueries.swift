import AccrueBayes
import AccrueCore

/// A variance network ready for queries.
///
/// `predict` takes `expectations: true` for weights replaced by their expectations, which is refused for variance layers unless `diagnostic: true` says that no
/// prediction is wanted. Everything else is for the posterior to answer.
final class LoadedVarianceNetwork: LoadedState {
    private let posterior: NetworkPosterior
    /// The network with every weight at its expectation.
    private let expected: NetworkPosterior
    /// Names of the layers whose weights have mean zero.
    private let layers: [String]

    init(posterior: NetworkPosterior, expected: NetworkPosterior, layers: [String]) {
        self.posterior = posterior
        self.expected = expected
        self.layers = layers
    }

    func prepare(for key: RandomKey, following earlier: (any LoadedState)?) throws(AccrueError) {
        try posterior.prepare(for: key, following: (earlier as? LoadedVarianceNetwork)?.posterior)
    }

    /// - Throws: `invalidInput` for `expectations` and `diagnostic` that make no sense; what `NetworkPosterior` throws.
    func answer(_ query: QueryBytes, key: RandomKey) throws(AccrueError) -> QueryBytes {
        query.verb == PredictQuery.verb ? try predict(query, key: key) : try posterior.answer(query, key: key)
    }

    func answers(_ queries: [QueryBytes], key: RandomKey) -> [Result<QueryBytes, AccrueError>] {
        guard queries.allSatisfy({ $0.verb == PredictQuery.verb && $0.header["expectations"] == nil && $0.header["diagnostic"] == nil }) else {
            return queries.map { query in do throws(AccrueError) { return .success(try answer(query, key: key)) } catch { return .failure(error) } }
        }
        return posterior.answers(queries, key: key)
    }

    private func predict(_ query: QueryBytes, key: RandomKey) throws(AccrueError) -> QueryBytes {
        let operation = "answering 'predict'"
        guard case .object(var fields) = query.header else { throw AccrueError(.invalidInput, while: operation, "expected a mapping of keys to values") }
        func flag(_ name: String) throws(AccrueError) -> Bool {
            guard let value = fields.removeValue(forKey: name), value != .null else { return false }
            guard let flag = value.bool else { throw AccrueError(.invalidInput, while: operation, "'\(name)' is \(value.canonical); it must be true or false") }
            return flag
        }
        let expectations = try flag("expectations"), isDiagnostic = try flag("diagnostic")
        let question = QueryBytes(verb: query.verb, header: .object(fields), tensors: query.tensors)
        guard expectations else {
            if isDiagnostic { throw AccrueError(.invalidInput, while: operation, "'diagnostic' goes with 'expectations'", hint: "leave it out, or ask for expectations too") }
            return try posterior.answer(question, key: key)
        }
        if !layers.isEmpty, !isDiagnostic {
            throw AccrueError(
                .invalidInput, while: operation,
                "weights of \(layers.joined(separator: ", ")) have expectation 0: a network with expectations in their place guesses",
                hint: "ask with draws, or add 'diagnostic': true to see it guess")
        }
        var answer = try expected.answer(question, key: key)
        if case .object(var fields) = answer.header {
            fields["expectations"] = true
            answer.header = .object(fields)
        }
        return answer
    }
}
