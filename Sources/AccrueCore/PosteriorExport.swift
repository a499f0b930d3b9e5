public import Foundation

/// A version as it leaves Accrue: its state, with what it is a version of in `__metadata__`.
///
/// States themselves are named by their content and say nothing about pipelines. What the method wrote there, such as the tensors' roles, stays.
public struct PosteriorExport: Equatable, Sendable {
    /// Safetensors.
    public let bytes: Data

    /// - Throws: `corrupt` when the state is not safetensors.
    public init(state: Data, pipeline: String, version: Int, method: String) throws(AccrueError) {
        var stored: Safetensors
        do { stored = try Safetensors.decode(state) } catch {
            throw AccrueError(error.code, while: "exporting version \(version) of pipeline '\(pipeline)'", error.problem, hint: error.hint)
        }
        stored.metadata.merge(["pipeline": pipeline, "version": String(version), "method": method]) { $1 }
        bytes = stored.encode()
    }

    /// - Throws: `unavailable` when the file cannot be written.
    public func write(to path: String) throws(AccrueError) {
        do { try bytes.write(to: URL(fileURLWithPath: path), options: .atomic) } catch {
            throw AccrueError(.unavailable, while: "writing the posterior to \(path)", error.reason, hint: "check that the folder exists and can be written")
        }
    }
}
