import AccrueBayes
import AccrueCore
import AccrueTensor

/// Which of the chances that training had predictions have too.
enum DrawnNoise: String, CaseIterable, Sendable {
    /// Drawn statistics, and dropout where the settings have it.
    case all
    case batchNorm
    case dropout
    /// Ordinary deterministic batch normalisation.
    case none

    var drawsStatistics: Bool { self == .all || self == .batchNorm }
    var drops: Bool { self == .all || self == .dropout }
    /// Whether it is something of its own only where the settings have dropout.
    var needsDropout: Bool { self == .dropout }
}

/// A network with distributions of its batch statistics, ready for queries.
///
/// `predict` also takes `noise`: all (the default), batchNorm, dropout or none. Everything else is for the posterior with all noise to answer.
final class LoadedStochasticBatchNorm: LoadedState {
    private let posteriors: [DrawnNoise: NetworkPosterior]
    private let whole: NetworkPosterior
    private let batches: Int

    /// - Parameters:
    ///   - posterior: with that noise; only those that the settings have are made.
    ///   - batches: that the moments are of.
    init(noises: [DrawnNoise], batches: Int, posterior: (DrawnNoise) throws(AccrueError) -> NetworkPosterior) throws(AccrueError) {
        whole = try posterior(.all)
        var posteriors: [DrawnNoise: NetworkPosterior] = [.all: whole]
        for noise in noises where noise != .all { posteriors[noise] = try posterior(noise) }
        self.posteriors = posteriors
        self.batches = batches
    }

    func prepare(for key: RandomKey, following earlier: (any LoadedState)?) throws(AccrueError) {
        try whole.prepare(for: key, following: (earlier as? LoadedStochasticBatchNorm)?.whole)
    }

    /// - Throws: `invalidInput` for an unknown `noise`; what `NetworkPosterior` throws.
    func answer(_ query: QueryBytes, key: RandomKey) throws(AccrueError) -> QueryBytes {
        guard query.verb == PredictQuery.verb else { return try whole.answer(query, key: key) }
        let (noise, posterior, question) = try read(query)
        return saying(noise, try posterior.answer(question, key: key))
    }

    /// Those with one noise share their passes.
    func answers(_ queries: [QueryBytes], key: RandomKey) -> [Result<QueryBytes, AccrueError>] {
        var results = [Result<QueryBytes, AccrueError>?](repeating: nil, count: queries.count)
        var groups: [DrawnNoise: [(index: Int, question: QueryBytes)]] = [:]
        for (index, query) in queries.enumerated() where query.verb == PredictQuery.verb {
            if let (noise, _, question) = try? read(query) { groups[noise, default: []].append((index, question)) }
        }
        for (noise, group) in groups {
            guard let posterior = posteriors[noise] else { continue }
            for (member, answer) in zip(group, posterior.answers(group.map(\.question), key: key)) { results[member.index] = answer.map { saying(noise, $0) } }
        }
        return zip(queries, results).map { query, result in
            if let result { return result }
            do throws(AccrueError) { return .success(try answer(query, key: key)) } catch { return .failure(error) }
        }
    }

    private func read(_ query: QueryBytes) throws(AccrueError) -> (noise: DrawnNoise, posterior: NetworkPosterior, question: QueryBytes) {
        let operation = "answering 'predict'"
        guard case .object(var fields) = query.header else { throw AccrueError(.invalidInput, while: operation, "expected a mapping of keys to values") }
        var noise = DrawnNoise.all
        if let asked = fields.removeValue(forKey: "noise"), asked != .null {
            guard let known = asked.string.flatMap(DrawnNoise.init) else {
                throw AccrueError(
                    .invalidInput, while: operation, "'noise' is \(asked.canonical)", hint: "choose one of \(DrawnNoise.allCases.map(\.rawValue).joined(separator: ", "))")
            }
            noise = known
        }
        guard let posterior = posteriors[noise] else {
            throw AccrueError(.invalidInput, while: operation, "'noise' is \(noise.rawValue); this pipeline's settings have no dropout", hint: "ask for batchNorm, or set settings.dropout")
        }
        return (noise, posterior, QueryBytes(verb: query.verb, header: .object(fields), tensors: query.tensors))
    }

    /// With what it rests on.
    private func saying(_ noise: DrawnNoise, _ answer: QueryBytes) -> QueryBytes {
        var result = answer
        if case .object(var fields) = answer.header {
            fields["noise"] = .string(noise.rawValue)
            fields["batches"] = .integer(batches)
            result.header = .object(fields)
        }
        return result
    }
}
