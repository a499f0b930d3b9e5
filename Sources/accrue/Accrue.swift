import AccrueCore
import ArgumentParser
import Foundation

/// The command line of Accrue.
@main
struct Accrue: AsyncParsableCommand {
    static let version = "0.1.0"

    static let configuration = CommandConfiguration(
        commandName: "accrue",
        abstract: "Bayesian posteriors that stay current while data keeps arriving.", version: version,
        subcommands: [
            ServeCommand.self, WorkerCommand.self, RunCommand.self, PipelineCommand.self, PushCommand.self, FlushCommand.self, QueryCommand.self, PosteriorCommand.self,
            StatusCommand.self, ChunksCommand.self, EventsCommand.self, KeysCommand.self, DoctorCommand.self, BenchCommand.self,
        ])

    static func main() async {
        do {
            var command = try parseAsRoot()
            if var command = command as? any AsyncParsableCommand { try await command.run() } else { try command.run() }
        } catch let error as AccrueError {
            report(error)
        } catch where CommandLine.arguments.contains("--json") && exitCode(for: error) == .validationFailure {
            let wrong = AccrueError(.invalidInput, while: "reading the command line", message(for: error), hint: "see --help")
            report(wrong, exitCode: ExitCode.validationFailure.rawValue)
        } catch {
            exit(withError: error)
        }
    }

    /// Prints an error where people and scripts look for it, and ends with its exit code (ops/RUNBOOK.md).
    private static func report(_ error: AccrueError, exitCode: Int32? = nil) -> Never {
        if CommandLine.arguments.contains("--json"), let body = try? JSONValue(encoding: error) {
            Output.line(JSONValue.object(["error": body]).canonical)
        } else {
            Output.note("accrue: \(error)")
        }
        Foundation.exit(exitCode ?? error.exitCode)
    }
}
