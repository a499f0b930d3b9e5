public import AccrueCore
import AccrueTensor

/// A uniform random sample of all rows that were ever offered, of bounded size: those with the smallest of one random number a row.
///
/// Source: Vitter, "Random sampling with a reservoir" (1985), in the form of random priorities, under which the sample of a union is exactly the smallest of
/// the samples' members: merging over shards and rounds is exact, in any order.
public struct Reservoir: Sendable {
    /// Rows that stay at most.
    public let capacity: Int
    /// By tensor of the schema, sorted by priority; empty before the first row.
    public private(set) var tensors: [String: TensorBytes] = [:]
    /// One a row, ascending.
    public private(set) var priorities: [Int64] = []

    public var count: Int { priorities.count }

    /// Without rows.
    public init(capacity: Int) { self.capacity = capacity }

    /// The sample of some rows alone; priorities are drawn with the key.
    public init(of rows: [Rows], capacity: Int, key: RandomKey) throws(AccrueError) {
        self.init(capacity: capacity)
        guard let all = Rows.joined(rows) else { return }
        let drawn = try key.uniform([all.count], dtype: .f64).doubles().map { Int64($0 * 0x1p62) }
        take(all.tensors, priorities: drawn)
    }

    /// The sample of everything that this one and the others were offered.
    public func merged(with others: [Reservoir]) -> Reservoir {
        let filled = ([self] + others).filter { $0.count > 0 }
        var result = Reservoir(capacity: capacity), joined: [String: TensorBytes] = [:]
        for name in filled.first?.tensors.keys.sorted() ?? [] { joined[name] = TensorBytes.joined(filled.compactMap { $0.tensors[name] }) }
        result.take(joined, priorities: filled.flatMap(\.priorities))
        return result
    }

    /// The kept rows; nil when there are none.
    /// - Throws: `corrupt` when they do not fit the schema.
    public func rows(_ schema: Schema) throws(AccrueError) -> Rows? {
        guard count > 0 else { return nil }
        do { return try Rows(tensors, schema: schema, while: "reading a reservoir") } catch {
            throw AccrueError(.corrupt, while: "reading a reservoir", error.problem, hint: "these bytes belong to another schema")
        }
    }

    private mutating func take(_ all: [String: TensorBytes], priorities drawn: [Int64]) {
        // Ties, which have no chance to speak of, go by order.
        let chosen = drawn.indices.sorted { (drawn[$0], $0) < (drawn[$1], $1) }.prefix(capacity)
        tensors = chosen.isEmpty ? [:] : all.mapValues { $0.rows(at: chosen) }
        priorities = chosen.map { drawn[$0] }
    }
}

extension Reservoir {
    /// The stored form under a prefix, for a state or delta to hold among its own; nothing when there are no rows.
    public func storedTensors(_ prefix: String = "reservoir") -> [String: TensorBytes] {
        guard count > 0 else { return [:] }
        var result = ["\(prefix).priority": TensorBytes(priorities, shape: [count])]
        for (name, tensor) in tensors { result["\(prefix).rows.\(name)"] = tensor }
        return result
    }

    /// - Throws: `corrupt` when the tensors are not of one number of rows.
    public init(_ stored: Safetensors, _ prefix: String = "reservoir", capacity: Int) throws(AccrueError) {
        self.init(capacity: capacity)
        guard let priority = stored.tensors["\(prefix).priority"] else { return }
        priorities = priority.doubles().map { Int64($0) }
        let rowsPrefix = "\(prefix).rows."
        for (name, tensor) in stored.tensors where name.hasPrefix(rowsPrefix) { tensors[String(name.dropFirst(rowsPrefix.count))] = tensor }
        guard priority.dtype == .i64, tensors.values.allSatisfy({ $0.rowCount == priority.rowCount }) else {
            throw AccrueError(.corrupt, while: "reading a reservoir", "its tensors differ in their number of rows")
        }
    }
}
