import AccrueClient
import AccrueCore
import AccrueMethods
import AccrueTensor
import ArgumentParser
import Foundation

/// `accrue-engine run`: a self-running pipeline file, as JSON on standard input, in this process.
struct RunCommand: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "run", abstract: "Run the pipeline file on standard input.")

    @Option(help: "The folder that relative data paths start from.") var data = "."
    @Flag(help: "Fail (exit 1) if a figure misses what 'expect' states.") var check = false
    @Option(help: "Write the last version's posterior to this file (safetensors).") var out: String?
    @Flag(help: "One JSON line a version, and one with the figures at the end.") var json = false

    func run() throws {
        EngineFingerprint.beginThread()
        let file = try JSONValue(parsing: FileHandle.standardInput.allBytes())
        let pipeline = try PipelineDeclaration(parsing: file)
        let plan = try RunDeclaration(parsing: file)
        let method = try MethodCatalog.standard.make(pipeline)
        let source = try RowSource(plan.source, schema: pipeline.schema, resolve: resolve)
        let run = LocalRun(pipeline: pipeline, method: method, rows: source.rows, chunks: source.chunks)
        let last = try run.run { (version) throws(AccrueError) in try show(version) }
        if let out { try PosteriorExport(state: last.state, pipeline: pipeline.name, version: last.number, method: pipeline.method).write(to: out) }
        let figures = try figures(of: last, method: method, plan: plan, pipeline: pipeline)
        let failures = plan.expectations.compactMap { $0.failure(figures[$0.name]) }
        try conclude(figures, failures: failures)
        if check, !failures.isEmpty { throw ExitCode(1) }
    }

    private func resolve(_ path: String) throws(AccrueError) -> String {
        let resolved = path.hasPrefix("/") ? path : "\(data)/\(path)"
        guard FileManager.default.fileExists(atPath: resolved) else {
            throw AccrueError(
                .notFound, while: "opening the pipeline's data", "there is no file \(resolved)",
                hint: "give the folder that holds it with --data or ACCRUE_DATA")
        }
        return resolved
    }

    /// The hold-out's figures, and everything the method's `describe` says.
    private func figures(
        of version: LocalRun.Version, method: any OpaqueMethod, plan: RunDeclaration, pipeline: PipelineDeclaration
    ) throws(AccrueError) -> [String: JSONValue] {
        let key = RandomKey(seed: pipeline.seed).folding("query")
        let state = try method.load(version.state)
        var figures = try state.answer(QueryBytes(verb: "describe", header: [:]), key: key).header.object ?? [:]
        if let holdout = plan.holdout {
            let rows = try RowSource(holdout, schema: pipeline.schema, resolve: resolve)
            // As a query asks it, with as many draws: the same figures as 'accrue query NAME predict --summary'.
            let held = rows.rows.rows(rows.chunks[0].lowerBound..<rows.chunks[rows.chunks.count - 1].upperBound)
            let answer = try state.answer(QueryBytes(verb: "predict", header: ["summary": true], tensors: held.tensors), key: key)
            for (name, figure) in answer.header["figures"]?.object ?? [:] { figures[name] = figure }
            figures["draws"] = answer.header["draws"]
        }
        return figures
    }

    private func show(_ version: LocalRun.Version) throws(AccrueError) {
        let score = version.score?.figures ?? [:]
        if json {
            print(
                JSONValue.object([
                    "version": .integer(version.number), "absorbedChunks": .integer(version.absorbedChunks),
                    "absorbedRows": .integer(version.absorbedRows), "score": .object(score.mapValues { .number($0) }),
                    "state": .string(ContentHash(of: version.state).hex),
                ]).canonical)
        } else {
            let before = ["accuracy", "rmse", "logPredictiveDensity"].compactMap { name in score[name].map { "\(name) \(Self.short($0))" } }
            let note = before.isEmpty ? "" : "   scored before learning: \(before.joined(separator: ", "))"
            print("version \(version.number)   chunks \(version.absorbedChunks)   rows \(version.absorbedRows)\(note)")
        }
    }

    private func conclude(_ figures: [String: JSONValue], failures: [String]) throws {
        if json {
            print(JSONValue.object(["figures": .object(figures), "failures": .array(failures.map { .string($0) })]).canonical)
            return
        }
        for (name, figure) in figures.sorted(by: { $0.key < $1.key }) { print("\(name): \(figure.double.map(Self.short) ?? figure.canonical)") }
        for failure in failures { print("MISSED \(failure)") }
        if check, failures.isEmpty { print("every expectation met") }
    }

    private static func short(_ value: Double) -> String { String(format: "%.6g", value) }
}
