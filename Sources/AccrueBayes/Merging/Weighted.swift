public import AccrueCore
public import AccrueTensor

/// A value and the rows it was learned from.
public struct Weighted<Value: Sendable>: Sendable {
    public var value: Value
    public var rows: Int
    public init(_ value: Value, rows: Int) {
        self.value = value
        self.rows = rows
    }
}

extension Weighted: Equatable where Value: Equatable {}

extension [Weighted<[Double]>] {
    /// The mean weighted by rows, summed in order in Float64: the merge of point estimates.
    ///
    /// One value comes back unchanged, bit for bit.
    /// - Throws: `invalidInput` for no values, no rows, or unequal lengths.
    public func mean() throws(AccrueError) -> [Double] {
        let total = reduce(0) { $0 + $1.rows }
        guard let first, total > 0, allSatisfy({ $0.rows >= 0 && $0.value.count == first.value.count }) else {
            throw AccrueError(
                .invalidInput, while: "averaging \(count) values", "their rows are \(map(\.rows)) and their lengths \(map(\.value.count))",
                hint: "merge at least one value; all must be of one length, with a positive sum of rows")
        }
        if count == 1 { return first.value }
        var result = [Double](repeating: 0, count: first.value.count)
        for part in self {
            let weight = Double(part.rows) / Double(total)
            for index in result.indices { result[index] += weight * part.value[index] }
        }
        return result
    }
}

extension [Weighted<NamedTensors>] {
    /// The mean weighted by rows, tensor by tensor, summed in order in Float64. One tree comes back unchanged.
    /// - Throws: `invalidInput` for no trees, no rows, or trees of different structure.
    public func mean() throws(AccrueError) -> NamedTensors {
        let total = reduce(0) { $0 + $1.rows }
        guard let first, total > 0 else { throw AccrueError(.invalidInput, while: "averaging \(count) models", "their rows are \(map(\.rows))") }
        if count == 1 { return first.value }
        return try map(\.value).weightedSum(map { Double($0.rows) / Double(total) })
    }
}

extension QuadraticSites<NamedTensors> {
    /// What several sets of rows say together: λ and η are those of each, added in order in Float64.
    /// - Throws: as `weightedSum`.
    public static func sum(_ parts: [QuadraticSites]) throws(AccrueError) -> QuadraticSites {
        let ones = parts.map { _ in 1.0 }
        return QuadraticSites(precision: try parts.map(\.precision).weightedSum(ones), precisionMean: try parts.map(\.precisionMean).weightedSum(ones))
    }
}

extension [NamedTensors] {
    /// Σ weight · tree, tensor by tensor, summed in order in Float64.
    /// - Throws: `invalidInput` for no trees, or trees of different structure.
    public func weightedSum(_ weights: [Double]) throws(AccrueError) -> NamedTensors {
        guard let first else { throw AccrueError(.invalidInput, while: "summing models", "there are none") }
        var list: [(String, Tensor)] = []
        for name in first.names {
            var parts: [Tensor] = []
            for tree in self { parts.append(try tree.tensor(name)) }
            list.append((name, try .weightedSum(parts, weights: weights)))
        }
        return NamedTensors(list)
    }
}
