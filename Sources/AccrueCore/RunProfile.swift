/// `profiles` of a pipeline file: by name, other values with which the same file is run, such as fewer rows and looser expectations for a quick look.
public enum RunProfile {
    /// Keys that a profile may have; the others say what the pipeline is.
    static let keys = ["seed", "settings", "round", "shards", "sweeps", "source", "holdout", "expect"]

    /// The file with the values of its profile `name` over its own: mappings key by key, all else as a whole; `null` takes a key away.
    /// - Throws: `notFound` when there is no such profile, `invalidInput` when it has unknown keys.
    public static func applying(_ name: String, to file: JSONValue) throws(AccrueError) -> JSONValue {
        let operation = "reading profile '\(name)' of pipeline '\(file["name"]?.string ?? "?")'"
        guard case .object(let profiles)? = file["profiles"], let profile = profiles[name] else {
            let known = names(of: file)
            throw AccrueError(
                .notFound, while: operation, "the file has no such profile",
                hint: known.isEmpty ? "add 'profiles', or leave --profile out" : "its profiles are: \(known.joined(separator: ", "))")
        }
        guard case .object = profile else { throw AccrueError(.invalidInput, while: operation, "it is \(profile.canonical), which is no mapping") }
        try StrictKeys.check(profile, known: keys, while: operation)
        return over(file, profile)
    }

    /// The names of a file's profiles, in order.
    public static func names(of file: JSONValue) -> [String] { (file["profiles"]?.object ?? [:]).keys.sorted() }

    /// What is to be said of a file and of it with each of its profiles.
    /// - Throws: what `check` does, with the profile's name.
    public static func each(of file: JSONValue, _ check: (JSONValue) throws(AccrueError) -> Void) throws(AccrueError) {
        try check(file)
        for name in names(of: file) {
            let changed = try applying(name, to: file)
            do throws(AccrueError) { try check(changed) } catch { throw error.adding(toOperation: " with profile '\(name)'") }
        }
    }

    private static func over(_ value: JSONValue, _ change: JSONValue) -> JSONValue {
        guard case .object(let changes) = change else { return change }
        guard case .object(var fields) = value else { return over([:], change) }
        for (key, change) in changes {
            fields[key] = if case .null = change { nil } else { over(fields[key] ?? .null, change) }
        }
        return .object(fields)
    }
}
