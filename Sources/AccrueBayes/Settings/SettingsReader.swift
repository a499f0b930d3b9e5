public import AccrueCore

/// Reads a method's settings: every key known, every value in its range, errors that say which.
public struct SettingsReader: Sendable {
    private let value: JSONValue
    private let path: String
    private let operation: String

    /// - Throws: `invalidInput` for an unknown key.
    public init(_ value: JSONValue, known: [String], path: String = "settings", while operation: String) throws(AccrueError) {
        try StrictKeys.check(value, known: known, while: "\(operation), \(path)")
        self.value = value
        self.path = path
        self.operation = operation
    }

    /// The mapping under a key; empty when the key is not there.
    public func section(_ key: String, known: [String]) throws(AccrueError) -> SettingsReader {
        try SettingsReader(value[key] ?? .object([:]), known: known, path: "\(path).\(key)", while: operation)
    }

    public func has(_ key: String) -> Bool { value[key] != nil }

    /// The word under a key; nil when it is not there, or no word.
    public func text(_ key: String) -> String? { value[key]?.string }

    /// The error for a value that cannot be used.
    public func refuse(_ key: String, _ problem: String, hint: String = "") -> AccrueError {
        AccrueError(.invalidInput, while: operation, "'\(path).\(key)' \(problem)", hint: hint)
    }

    /// A real number in a range; without a default it must be there.
    /// - Throws: `invalidInput` naming key, value and range.
    public func number(_ key: String, default standard: Double? = nil, in range: ClosedRange<Double>) throws(AccrueError) -> Double {
        guard let found = value[key] else {
            if let standard { return standard }
            throw refuse(key, "is missing", hint: "give a number from \(range.lowerBound) to \(range.upperBound)")
        }
        guard let number = found.double, range.contains(number) else {
            throw refuse(key, "is \(found.canonical); it must be a number from \(range.lowerBound) to \(range.upperBound)")
        }
        return number
    }

    /// A whole number in a range; without a default it must be there.
    /// - Throws: `invalidInput` naming key, value and range.
    public func whole(_ key: String, default standard: Int? = nil, in range: ClosedRange<Int>) throws(AccrueError) -> Int {
        guard let found = value[key] else {
            if let standard { return standard }
            throw refuse(key, "is missing", hint: "give a whole number from \(range.lowerBound) to \(range.upperBound)")
        }
        guard let number = found.int, range.contains(number) else {
            throw refuse(key, "is \(found.canonical); it must be a whole number from \(range.lowerBound) to \(range.upperBound)")
        }
        return number
    }

    /// A list of whole numbers, each in the range.
    /// - Throws: `invalidInput` naming key, value and range.
    public func wholes(_ key: String, default standard: [Int], in range: ClosedRange<Int>) throws(AccrueError) -> [Int] {
        guard let found = value[key] else { return standard }
        let numbers = found.array?.compactMap(\.int) ?? []
        guard let list = found.array, numbers.count == list.count, numbers.allSatisfy(range.contains) else {
            throw refuse(key, "is \(found.canonical); it must be a list of whole numbers from \(range.lowerBound) to \(range.upperBound)")
        }
        return numbers
    }

    /// A list of different words, each one of those known.
    /// - Throws: `invalidInput` naming key, word and what is known.
    public func words(_ key: String, known: [String]) throws(AccrueError) -> [String] {
        let choices = known.joined(separator: ", ")
        guard let found = value[key] else { throw refuse(key, "is missing", hint: "give a list of some of \(choices)") }
        let words = found.array?.compactMap(\.string) ?? []
        guard let list = found.array, words.count == list.count, Set(words).count == words.count else {
            throw refuse(key, "is \(found.canonical); it must be a list of different words", hint: "give some of \(choices)")
        }
        for word in words where !known.contains(word) {
            let close = StrictKeys.nearest(to: word, in: known).map { "did you mean '\($0)'? " } ?? ""
            throw refuse(key, "has '\(word)'", hint: "\(close)give some of \(choices)")
        }
        return words
    }

    /// True or false.
    /// - Throws: `invalidInput` for anything else.
    public func flag(_ key: String, default standard: Bool) throws(AccrueError) -> Bool {
        guard let found = value[key] else { return standard }
        guard let flag = found.bool else { throw refuse(key, "is \(found.canonical); it must be true or false") }
        return flag
    }

    /// One of a few words.
    public func choice<Choice: RawRepresentable & CaseIterable>(_ key: String, default standard: Choice?) throws(AccrueError) -> Choice
    where Choice.RawValue == String {
        let words = Choice.allCases.map(\.rawValue)
        guard let found = value[key] else {
            if let standard { return standard }
            throw refuse(key, "is missing", hint: "choose one of \(words.joined(separator: ", "))")
        }
        guard let word = found.string, let choice = Choice(rawValue: word) else {
            let close = found.string.flatMap { StrictKeys.nearest(to: $0, in: words) }.map { "did you mean '\($0)'? " } ?? ""
            throw refuse(key, "is \(found.canonical)", hint: "\(close)choose one of \(words.joined(separator: ", "))")
        }
        return choice
    }
}
