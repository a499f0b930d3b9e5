import AccrueCore
import ArgumentParser

/// Other values than a pipeline file's, of one of its profiles and one by one.
struct PipelineChanges: ParsableArguments {
    @Option(help: "Take the file with the values of this one of its profiles.") var profile: String?
    @Option(name: .customLong("set"), help: "Another value at a place of the file, as key.key=value (null takes it away); may be given several times.") var changes: [String] = []

    /// The file with the profile's values, then with the others.
    /// - Throws: `notFound` when there is no such profile, `invalidInput` when a change cannot be read or has no place.
    func applied(to file: JSONValue) throws(AccrueError) -> JSONValue {
        let file = if let profile { try RunProfile.applying(profile, to: file) } else { file }
        return try PipelineFile.setting(changes, in: file)
    }
}
