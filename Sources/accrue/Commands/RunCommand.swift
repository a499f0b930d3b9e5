import AccrueCore
import ArgumentParser
import Foundation

/// `accrue run FILE`
struct RunCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "run", abstract: "Run a pipeline file in one process: stream its source chunk by chunk, score the hold-out, check what it expects.",
        discussion: """
            EXAMPLES
              accrue run pipelines/linear-golden.yaml --check
              accrue run pipelines/fashion-mnist-incremental.yaml --json
              accrue run pipelines/fashion-mnist-incremental.yaml --set seed=2 --set settings.epochs=8 --each 2000
            """)

    @Argument(help: "The pipeline file; it needs a 'source'.") var file: String
    @Flag(help: "Fail (exit 1) if a figure misses what 'expect' states.") var check = false
    @Option(help: "Write the last version's posterior to this file (safetensors).") var out: String?
    @Flag(help: "One JSON line a version, and one with the figures at the end.") var json = false
    @OptionGroup var other: PipelineChanges
    @Option(help: "Also score every version on this many rows of the hold-out, its first.") var each: Int?
    @Option(help: "Draws with which the hold-out is scored; else the method's own number.") var draws: Int?
    @Flag(help: .private) var baselines = false
    @Option(help: "Start from this network or exported posterior (safetensors).") var start: String?
    @Option(help: "The folder that relative data paths start from; else $ACCRUE_DATA, else the pipeline file's folder.") var data: String?

    func validate() throws {
        if let each, each < 1 { throw ValidationError("--each is \(each); it must be at least 1") }
        if let draws, draws < 1 { throw ValidationError("--draws is \(draws); it must be at least 1") }
    }

    func run() throws {
        let declaration = try other.applied(to: try PipelineFile.read(file))
        _ = try PipelineDeclaration(parsing: declaration)
        _ = try RunDeclaration(parsing: declaration)
        let folder = data ?? ProcessInfo.processInfo.environment["ACCRUE_DATA"] ?? (file as NSString).deletingLastPathComponent
        var arguments = ["run", "--data", folder.isEmpty ? "." : folder]
        if let out { arguments += ["--out", out] }
        if let start { arguments += ["--start", start] }
        if check { arguments.append("--check") }
        if let each { arguments += ["--each", String(each)] }
        if let draws { arguments += ["--draws", String(draws)] }
        if baselines { arguments.append("--baselines") }
        if json { arguments.append("--json") }
        try EngineProgram.become(arguments, input: declaration)
    }
}
