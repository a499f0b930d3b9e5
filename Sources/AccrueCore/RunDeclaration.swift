/// The parts of a pipeline file that make it self-running: where its rows come from, what is held out, and what to expect.
public struct RunDeclaration: Equatable, Sendable {
    public var source: DataSource
    public var holdout: DataSource?
    public var expectations: [Expectation]

    /// - Throws: `invalidInput` for unknown keys, a missing source, or an expectation without a bound.
    public init(parsing file: JSONValue) throws(AccrueError) {
        let operation = "reading pipeline '\(file["name"]?.string ?? "?")'"
        guard let source = file["source"] else {
            throw AccrueError(
                .invalidInput, while: operation, "there is no 'source', so there is nothing to run",
                hint: "add 'source' (inline, csv or tensors), or push rows to a daemon with 'accrue push'")
        }
        self.source = try DataSource(parsing: source, while: operation + ", source")
        if let holdout = file["holdout"] { self.holdout = try DataSource(parsing: holdout, while: operation + ", holdout") }
        expectations = []
        for (name, bound) in (file["expect"]?.object ?? [:]).sorted(by: { $0.key < $1.key }) {
            expectations.append(try Expectation(name: name, parsing: bound, while: operation + ", expect"))
        }
    }
}

/// Where rows come from, and how they are cut into chunks.
public struct DataSource: Equatable, Sendable {
    public enum Origin: Equatable, Sendable {
        /// Nested lists, by tensor name.
        case inline([String: JSONValue])
        /// Files (IDX, NPY or safetensors), by tensor name: those of one tensor have its rows one after the other.
        case tensors([String: [String]])
        case csv(String)
    }
    /// Line `index` of a file of 0-based row numbers; `test` takes those rows, otherwise all others.
    public struct Split: Codable, Equatable, Sendable {
        public var file: String
        public var index: Int
        public var test: Bool
    }

    public var origin: Origin
    public var firstRow: Int
    public var rows: Int?
    public var rowsPerChunk: Int?
    public var split: Split?

    static let keys = ["inline", "tensors", "csv", "firstRow", "rows", "rowsPerChunk", "split"]

    init(parsing value: JSONValue, while operation: String) throws(AccrueError) {
        func refuse(_ problem: String) -> AccrueError { AccrueError(.invalidInput, while: operation, problem) }
        try StrictKeys.check(value, known: Self.keys, while: operation)
        switch (value["inline"], value["tensors"], value["csv"]) {
        case (.object(let tensors)?, nil, nil): origin = .inline(tensors)
        case (nil, .object(let files)?, nil):
            var paths: [String: [String]] = [:]
            for (name, file) in files {
                let list = file.string.map { [$0] } ?? file.array?.compactMap(\.string) ?? []
                guard !list.isEmpty, list.count == file.array?.count ?? 1 else { throw refuse("the file of tensor '\(name)' must be a path, or a list of paths") }
                paths[name] = list
            }
            origin = .tensors(paths)
        case (nil, nil, .string(let path)?): origin = .csv(path)
        default: throw refuse("give exactly one of inline, tensors and csv")
        }
        func count(_ key: String, from least: Int) throws(AccrueError) -> Int? {
            guard let value = value[key] else { return nil }
            guard let number = value.int, number >= least else { throw refuse("'\(key)' is \(value.canonical); it must be a whole number from \(least)") }
            return number
        }
        firstRow = try count("firstRow", from: 0) ?? 0
        rows = try count("rows", from: 1)
        rowsPerChunk = try count("rowsPerChunk", from: 1)
        if let split = value["split"] {
            try StrictKeys.check(split, known: ["file", "index", "test"], while: operation + ", split")
            self.split = try split.decode(Split.self, while: operation + ", split")
        }
    }

    /// The consecutive row ranges that become chunks, for `available` rows after any split.
    public func chunkRanges(available: Int) -> [Range<Int>] {
        let start = min(firstRow, available)
        let end = rows.map { min(available, start + $0) } ?? available
        guard start < end else { return [] }
        let size = rowsPerChunk ?? (end - start)
        return stride(from: start, to: end, by: size).map { $0..<min(end, $0 + size) }
    }
}

/// One figure that a run must reach: a number or a list of numbers.
public struct Expectation: Equatable, Sendable {
    public var name: String
    public var values: [Double]?
    public var tolerance: Double
    public var atLeast: Double?
    public var atMost: Double?

    init(name: String, parsing bound: JSONValue, while operation: String) throws(AccrueError) {
        self.name = name
        try StrictKeys.check(bound, known: ["value", "tolerance", "atLeast", "atMost"], while: "\(operation), \(name)")
        values = bound["value"].map { Self.flatten($0) }
        tolerance = bound["tolerance"]?.double ?? 0
        atLeast = bound["atLeast"]?.double
        atMost = bound["atMost"]?.double
        guard values != nil || atLeast != nil || atMost != nil else {
            throw AccrueError(.invalidInput, while: "\(operation), \(name)", "no bound is given", hint: "add value and tolerance, atLeast, or atMost")
        }
    }

    /// Nil when `figure` (a number or nested lists of numbers) meets this expectation, otherwise what is wrong.
    public func failure(_ figure: JSONValue?) -> String? {
        guard let figure else { return "\(name): the run gave no such figure" }
        let found = Self.flatten(figure)
        guard !found.isEmpty, found.allSatisfy(\.isFinite) else { return "\(name): \(figure.canonical) is not a finite number" }
        if let values {
            guard values.count == found.count else { return "\(name): \(found.count) numbers, expected \(values.count)" }
            let worst = zip(values, found).map { abs($0 - $1) }.max() ?? 0
            if !(worst <= tolerance) { return "\(name): \(figure.canonical) differs from the expected by \(worst), tolerance \(tolerance)" }
        }
        if let atLeast, let low = found.min(), !(low >= atLeast) { return "\(name): \(low) is below \(atLeast)" }
        if let atMost, let high = found.max(), !(high <= atMost) { return "\(name): \(high) is above \(atMost)" }
        return nil
    }

    /// The numbers of nested lists, in order.
    public static func flatten(_ value: JSONValue) -> [Double] {
        if let number = value.double { return [number] }
        return value.array?.flatMap(flatten) ?? []
    }
}
