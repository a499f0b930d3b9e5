import AccrueCore
import ArgumentParser
import Foundation

/// `accrue pipeline …`
struct Pipeline: ParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Pipelines: declared, named instances of a learning method.", subcommands: [Validate.self])

    /// `accrue pipeline validate FILE`
    struct Validate: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Check a pipeline file without running it (its settings are checked by the method when it is applied or run).",
            discussion: """
                EXAMPLE
                  accrue pipeline validate pipelines/linear-golden.yaml
                """)

        @Argument(help: "The pipeline file.") var file: String
        @Flag(help: "Print the declaration as JSON.") var json = false

        func run() throws {
            let file = try PipelineFile.read(file)
            let pipeline = try PipelineDeclaration(parsing: file)
            if file["source"] != nil { _ = try RunDeclaration(parsing: file) }
            if json {
                print(try JSONValue(encoding: pipeline).canonical)
            } else {
                print("pipeline '\(pipeline.name)': \(pipeline.method), \(pipeline.schema.tensors.count) tensors, \(pipeline.round.chunks) chunks a round, \(pipeline.shards) shards, \(pipeline.sweeps) sweeps")
            }
        }
    }
}
