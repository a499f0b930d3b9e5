import AccrueCore
import AccrueWire
import Synchronization

/// The results of chunks that came in one push, which is answered when all are there.
final class PushedTogether: Sendable {
    typealias Result = Swift.Result<Acknowledgement, AccrueError>

    private struct Results {
        var all: [Result?]
        var missing: Int
    }
    private let results: Mutex<Results>

    init(count: Int) { results = Mutex(Results(all: Array(repeating: nil, count: count), missing: count)) }

    /// - Returns: all results, with the last one that comes.
    func put(_ result: Result, at index: Int) -> [Result]? {
        results.withLock { results in
            guard results.all[index] == nil else { return nil }
            results.all[index] = result
            results.missing -= 1
            return results.missing == 0 ? results.all.compactMap(\.self) : nil
        }
    }
}
