import AccrueClient
import AccrueCore
import AccrueWire
import ArgumentParser

/// `accrue pipeline …`
struct PipelineCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "pipeline", abstract: "Pipelines: declared, named instances of a learning method.",
        subcommands: [Apply.self, Validate.self, List.self, Show.self, Delete.self, Resume.self])

    /// `accrue pipeline apply FILE`
    struct Apply: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Make a pipeline from its file, with its version 0; the same file again changes nothing, with classes appended to a target it adds them.",
            discussion: """
                EXAMPLE
                  accrue pipeline apply pipelines/linear-golden.yaml
                """)

        @Argument(help: "The pipeline file.") var file: String
        @Flag(help: "Print JSON.") var json = false
        @OptionGroup var connection: ConnectOptions

        func run() async throws {
            let declaration = try PipelineDeclaration(parsing: try PipelineFile.read(file))
            let applied = try await connection.open().apply(declaration)
            if json { return try Output.json(applied) }
            Output.line("pipeline '\(applied.name)' is at version \(applied.version)\(applied.position.map { "; classes are appended by log entry \($0)" } ?? "")")
        }
    }

    /// `accrue pipeline validate FILE`
    struct Validate: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Check a pipeline file and its profiles without running them: what 'pipeline apply' and 'run' would refuse, but for the data.",
            discussion: """
                Where there is no accrue-engine beside this program, the method's settings are not checked, and a note says so.

                EXAMPLE
                  accrue pipeline validate pipelines/linear-golden.yaml
                """)

        @Argument(help: "The pipeline file.") var file: String
        @OptionGroup var other: PipelineChanges
        @Flag(help: "Print the declaration as JSON.") var json = false

        func run() throws {
            let file = try other.applied(to: try PipelineFile.read(file))
            let pipeline = try PipelineDeclaration(parsing: file)
            try RunProfile.each(of: file) { (file) throws(AccrueError) in
                _ = try PipelineDeclaration(parsing: file)
                if file["source"] != nil { _ = try RunDeclaration(parsing: file) }
            }
            if EngineProgram.isThere {
                _ = try EngineProgram.output(["validate", "--json"], input: file)
            } else {
                Output.note("accrue: the settings of \(pipeline.method) were not checked: there is no accrue-engine beside this program")
            }
            if json { return try Output.json(pipeline) }
            Output.line("pipeline '\(pipeline.name)': \(pipeline.method), \(pipeline.schema.tensors.count) tensors, \(pipeline.round.chunks) chunks a round, \(pipeline.shards) shards, \(pipeline.sweeps) sweeps")
        }
    }

    /// `accrue pipeline list`
    struct List: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "The pipelines there are.",
            discussion: """
                EXAMPLE
                  accrue pipeline list --json
                """)

        @Flag(help: "One JSON line a pipeline.") var json = false
        @OptionGroup var connection: ConnectOptions

        func run() async throws {
            let pipelines = try await connection.open().pipelines()
            if json { return try pipelines.forEach { try Output.json($0) } }
            var table = TextTable("pipeline", "method", "state", "version", "chunks", "rows", "waiting")
            for pipeline in pipelines {
                let status = pipeline.status
                table.add(
                    status.name, pipeline.declaration.method, status.state.rawValue, "\(status.version)", "\(status.absorbed.chunks)", "\(status.absorbed.rows)",
                    "\(status.waiting.chunks)")
            }
            table.lines.forEach(Output.line)
        }
    }

    /// `accrue pipeline show NAME`
    struct Show: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "A pipeline's declaration and how it is.",
            discussion: """
                EXAMPLE
                  accrue pipeline show fashion-mnist
                """)

        @Argument(help: "The pipeline.") var name: String
        @Flag(help: "Print JSON.") var json = false
        @OptionGroup var connection: ConnectOptions

        func run() async throws {
            let record = try await connection.open().pipeline(name)
            if json { return try Output.json(record) }
            let declaration = record.declaration
            Output.line("pipeline     \(declaration.name) (incarnation \(record.incarnation))")
            Output.line("method       \(declaration.method), seed \(declaration.seed)")
            Output.line("settings     \(declaration.settings.canonical)")
            for tensor in declaration.schema.tensors {
                Output.line("tensor       \(tensor.name): \(tensor.role.rawValue), \(tensor.dtype.rawValue), a row has shape \(tensor.shape)")
            }
            let linger = declaration.round.linger.map { ", or after \(Output.short($0)) s" } ?? ""
            Output.line("round        \(declaration.round.chunks) chunks\(linger); \(declaration.shards) shards, \(declaration.sweeps) sweeps")
            StatusText.lines(of: record.status).forEach(Output.line)
        }
    }

    /// `accrue pipeline delete NAME`
    struct Delete: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Delete a pipeline with its log, its chunks and all versions of its posterior. This cannot be undone.",
            discussion: """
                EXAMPLE
                  accrue pipeline delete fashion-mnist
                """)

        @Argument(help: "The pipeline.") var name: String
        @Flag(help: "Print JSON.") var json = false
        @OptionGroup var connection: ConnectOptions

        func run() async throws {
            try await connection.open().delete(name)
            Output.line(json ? JSONValue.object(["deleted": .string(name)]).canonical : "pipeline '\(name)' is deleted")
        }
    }

    /// `accrue pipeline resume NAME`
    struct Resume: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Let a paused pipeline go on.",
            discussion: """
                A pipeline is paused when workers keep dying over its chunks; 'accrue status' says which. Set those aside first if they are at fault.

                EXAMPLES
                  accrue chunks set-aside fashion-mnist 17 --reason "crashes the fit"
                  accrue pipeline resume fashion-mnist
                """)

        @Argument(help: "The pipeline.") var name: String
        @Flag(help: "Print JSON.") var json = false
        @OptionGroup var connection: ConnectOptions

        func run() async throws {
            try await connection.open().resume(name)
            Output.line(json ? JSONValue.object(["resumed": .string(name)]).canonical : "pipeline '\(name)' goes on")
        }
    }
}
