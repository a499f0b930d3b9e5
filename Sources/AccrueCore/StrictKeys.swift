/// Refuses unknown keys in what people write, naming the nearest known one.
public enum StrictKeys {
    /// - Throws: `invalidInput` for a key of `value` that is not in `known`.
    public static func check(_ value: JSONValue, known: [String], while operation: String) throws(AccrueError) {
        guard case .object(let fields) = value else {
            throw AccrueError(.invalidInput, while: operation, "expected a mapping of keys to values")
        }
        for key in fields.keys.sorted() where !known.contains(key) {
            let close = nearest(to: key, in: known).map { "did you mean '\($0)'? " } ?? ""
            throw AccrueError(
                .invalidInput, while: operation, "unknown key '\(key)'",
                hint: "\(close)known keys are \(known.sorted().joined(separator: ", "))")
        }
    }

    /// The known word with the smallest edit distance, if it is near enough to be meant.
    public static func nearest(to word: String, in known: [String]) -> String? {
        let ranked = known.map { ($0, distance(word, $0)) }.sorted { ($0.1, $0.0) < ($1.1, $1.0) }
        guard let best = ranked.first, best.1 <= max(2, word.count / 2) else { return nil }
        return best.0
    }

    /// Levenshtein distance.
    private static func distance(_ left: String, _ right: String) -> Int {
        let left = Array(left.lowercased()), right = Array(right.lowercased())
        var row = Array(0...right.count)
        for (i, a) in left.enumerated() {
            var diagonal = row[0]
            row[0] = i + 1
            for (j, b) in right.enumerated() {
                let above = row[j + 1]
                row[j + 1] = min(above + 1, row[j] + 1, diagonal + (a == b ? 0 : 1))
                diagonal = above
            }
        }
        return row[right.count]
    }
}
