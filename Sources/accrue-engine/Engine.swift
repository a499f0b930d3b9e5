import AccrueCore
import ArgumentParser
import Foundation

/// The program that does the numerical work; people use it through `accrue`.
@main
struct Engine: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "accrue-engine", abstract: "The numerical engine of Accrue; started by 'accrue'.", subcommands: [
            RunCommand.self, ValidateCommand.self, WorkerCommand.self, QuerierCommand.self, FingerprintCommand.self, BenchStepCommand.self, BenchFisherCommand.self, BenchSwapCommand.self,
            BenchMergeCommand.self, BenchPushCommand.self, BenchPredictCommand.self,
        ])

    static func main() {
        do {
            var command = try parseAsRoot()
            try command.run()
        } catch let error as AccrueError {
            if CommandLine.arguments.contains("--json"), let body = try? JSONValue(encoding: error) {
                print(JSONValue.object(["error": body]).canonical)
            } else {
                FileHandle.standardError.write(Data("accrue: \(error)\n".utf8))
            }
            Foundation.exit(error.exitCode)
        } catch {
            exit(withError: error)
        }
    }
}
