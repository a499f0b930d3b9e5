import AccrueCore
import AccrueMethods
import ArgumentParser
import Foundation

/// `accrue-engine validate`: a pipeline file, as JSON on standard input, whose method is made, with each of its profiles too, and let go.
struct ValidateCommand: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "validate", abstract: "Check the method and settings of the pipeline file on standard input.")

    @Flag(help: "Print an error as JSON.") var json = false

    func run() throws {
        try RunProfile.each(of: try JSONValue(parsing: FileHandle.standardInput.allBytes())) { (file) throws(AccrueError) in
            _ = try MethodCatalog.standard.make(try PipelineDeclaration(parsing: file))
        }
    }
}
