import AccrueClient
import AccrueCore
import AccrueWire
import ArgumentParser
import Foundation

/// `accrue posterior …`
struct PosteriorCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "posterior", abstract: "The versions of a pipeline's posterior.", subcommands: [List.self, Show.self, Export.self, Import.self])

    /// `accrue posterior list NAME`
    struct List: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "List versions, oldest first, each with how the one before predicted what it absorbed.",
            discussion: """
                EXAMPLE
                  accrue posterior list fashion-mnist
                """)

        @Argument(help: "The pipeline.") var name: String
        @Flag(help: "One JSON line a version.") var json = false
        @OptionGroup var connection: ConnectOptions

        func run() async throws {
            var versions: [PosteriorRecord] = []
            try await connection.open().versions(of: name) { versions += $0.versions }
            if json { return try versions.forEach { try Output.json($0) } }
            var table = TextTable("version", "made", "chunks", "rows", "bytes", "state", "scored before learning")
            for version in versions {
                table.add(
                    "\(version.version)", Output.time(version.createdAtMs), "\(version.absorbedChunks)", "\(version.absorbedRows)", "\(version.bytes)",
                    version.hash.short, Output.figures(version.figures ?? [:]))
            }
            table.lines.forEach(Output.line)
        }
    }

    /// `accrue posterior show NAME`
    struct Show: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "One version: what it rests on and how large it is.",
            discussion: """
                EXAMPLES
                  accrue posterior show fashion-mnist
                  accrue posterior show fashion-mnist --at 3 --json
                """)

        @Argument(help: "The pipeline.") var name: String
        @Option(help: "The version; else the newest.") var at: Int?
        @Flag(help: "Print JSON.") var json = false
        @OptionGroup var connection: ConnectOptions

        func run() async throws {
            let version = try await connection.open().version(at, of: name)
            if json { return try Output.json(version) }
            Output.line("pipeline     \(version.pipeline), version \(version.version), made \(Output.time(version.createdAtMs))")
            Output.line("absorbed     \(version.absorbedChunks) chunks, \(version.absorbedRows) rows, the log up to position \(version.through)")
            Output.line("state        \(version.hash), \(version.bytes) bytes")
            if let figures = version.figures, !figures.isEmpty { Output.line("scored before learning: \(Output.figures(figures))") }
        }
    }

    /// `accrue posterior export NAME --out FILE`
    struct Export: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Write a version to a file (safetensors) that says what it is: pipeline, version, method, and the role of each tensor.",
            discussion: """
                EXAMPLES
                  accrue posterior export fashion-mnist --out posterior.safetensors
                  accrue posterior export fashion-mnist --at 3 --out posterior-3.safetensors
                """)

        @Argument(help: "The pipeline.") var name: String
        @Option(help: "The file to write.") var out: String
        @Option(help: "The version; else the newest.") var at: Int?
        @Flag(help: "Print what was written as JSON.") var json = false
        @OptionGroup var connection: ConnectOptions

        func run() async throws {
            let cluster = try await connection.open()
            let version = try await cluster.version(at, of: name)
            let export = try await cluster.export(of: version)
            try export.write(to: out)
            if json { return try Output.json(version) }
            Output.note("version \(version.version) of pipeline '\(name)': \(export.bytes.count) bytes written to \(out)")
        }
    }

    /// `accrue posterior import NAME --in FILE`
    struct Import: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Make a network's weights, or an exported posterior, the next version; learning goes on from it.",
            discussion: """
                The file is safetensors: tensors named as the model's weights are, or what 'accrue posterior export' wrote. What was pushed before is learned
                before; the same file again changes nothing, unless it comes with another key.

                EXAMPLES
                  accrue posterior import fashion-mnist --in pretrained.safetensors
                  accrue posterior import fashion-mnist --in posterior-3.safetensors --key back-to-3
                """)

        @Argument(help: "The pipeline.") var name: String
        @Option(name: .customLong("in"), help: "The file to read.") var file: String
        @Option(help: "The same file under another key is imported again.") var key: String?
        @Flag(help: "Print JSON.") var json = false
        @OptionGroup var connection: ConnectOptions

        func run() async throws {
            guard let bytes = FileManager.default.contents(atPath: file) else {
                throw AccrueError(.notFound, while: "importing into pipeline '\(name)'", "there is no file \(file) that can be read", hint: "check the path after --in")
            }
            let cluster = try await connection.open()
            let imported = try await cluster.importPosterior(bytes, into: name, key: key)
            let outcome = try await cluster.outcome(ofPosition: imported.position, in: name)
            guard let version = outcome.version else {
                throw AccrueError(
                    .conflict, while: "importing into pipeline '\(name)'", "the import at position \(imported.position) is set aside: \(outcome.reason ?? "no reason is known")",
                    hint: "see 'accrue events'")
            }
            if json { return try Output.json(JSONValue.object(["position": .integer(imported.position), "duplicate": .bool(imported.duplicate), "version": .integer(version)])) }
            Output.line("the import at position \(imported.position) is version \(version)\(imported.duplicate ? "; it was there already" : "")")
        }
    }
}
