import AccrueCore
import ArgumentParser
import Foundation

/// The command line of Accrue.
@main
struct Accrue: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "accrue",
        abstract: "Bayesian posteriors that stay current while data keeps arriving.",
        subcommands: [Run.self, Pipeline.self])

    static func main() {
        do {
            var command = try parseAsRoot()
            try command.run()
        } catch let error as AccrueError {
            report(error)
        } catch {
            exit(withError: error)
        }
    }

    /// Prints an error where people and scripts look for it, and ends with its exit code (ops/RUNBOOK.md).
    private static func report(_ error: AccrueError) -> Never {
        if CommandLine.arguments.contains("--json"), let body = try? JSONValue(encoding: error) {
            print(JSONValue.object(["error": body]).canonical)
        } else {
            FileHandle.standardError.write(Data("accrue: \(error)\n".utf8))
        }
        Foundation.exit(error.exitCode)
    }
}
