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
    @Option(help: "Also score every version on this many rows of the hold-out, its first.") var each: Int?
    @Option(help: "Draws with which the hold-out is scored.") var draws: Int?
    @Option(help: "Start from this network or exported posterior (safetensors).") var start: String?
    @Flag(help: "Know the methods that others use instead, too.") var baselines = false
    @Flag(help: "One JSON line a version, and one with the figures at the end.") var json = false

    func run() throws {
        EngineFingerprint.beginThread()
        let file = try JSONValue(parsing: FileHandle.standardInput.allBytes())
        let pipeline = try PipelineDeclaration(parsing: file)
        let plan = try RunDeclaration(parsing: file)
        let method = try (baselines ? MethodCatalog.withBaselines : .standard).make(pipeline)
        let source = try RowSource(plan.source, schema: pipeline.schema, resolve: resolve)
        let first = try start.map { (path) throws(AccrueError) -> Data in
            guard let bytes = FileManager.default.contents(atPath: path) else {
                throw AccrueError(.notFound, while: "starting from a posterior", "there is no file \(path) that can be read", hint: "check the path after --start")
            }
            return bytes
        }
        let run = LocalRun(pipeline: pipeline, method: method, rows: source.rows, chunks: source.chunks, start: first)
        let holdout = try plan.holdout.map { (holdout) throws(AccrueError) in try RowSource(holdout, schema: pipeline.schema, resolve: resolve) }
        let key = RandomKey(seed: pipeline.seed).folding("query")
        let last = try run.run { (version) throws(AccrueError) in
            var held: [String: JSONValue]?
            if let each, version.number > 0, let holdout { held = try self.figures(try method.load(version.state), on: holdout, rows: each, key: key) }
            try show(version, held: held)
        }
        if let out { try PosteriorExport(state: last.state, pipeline: pipeline.name, version: last.number, method: pipeline.method).write(to: out) }
        let state = try method.load(last.state)
        var figures = try state.answer(QueryBytes(verb: "describe", header: [:]), key: key).header.object ?? [:]
        if let holdout { figures.merge(try self.figures(state, on: holdout, key: key)) { $1 } }
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

    /// The hold-out's figures, as a query asks for them, with as many draws: the same as of 'accrue query NAME predict --summary'. Where the hold-out
    /// is cut into chunks and every version is scored, `chunks` has those of each.
    /// - Parameter rows: how many are scored, the first ones; nil: all.
    private func figures(_ state: any LoadedState, on holdout: RowSource, rows: Int? = nil, key: RandomKey) throws(AccrueError) -> [String: JSONValue] {
        let first = holdout.chunks[0].lowerBound, end = min(holdout.chunks[holdout.chunks.count - 1].upperBound, first + (rows ?? .max / 2))
        var pooled: Score?, chunks: [JSONValue] = [], result: [String: JSONValue] = [:]
        for chunk in each == nil ? [first..<end] : holdout.chunks where chunk.lowerBound < end {
            let held = holdout.rows.rows(chunk.lowerBound..<min(end, chunk.upperBound))
            var header: [String: JSONValue] = ["summary": true]
            if let draws { header["draws"] = .integer(draws) }
            let answer = try state.answer(QueryBytes(verb: "predict", header: .object(header), tensors: held.tensors), key: key).header
            result["draws"] = answer["draws"]
            chunks.append(answer["figures"] ?? [:])
            guard let part = try answer["score"]?.decode(Score.self, while: "scoring the hold-out") else { continue }
            pooled = pooled.map { var sum = $0; sum.merge(part); return sum } ?? part
        }
        for (name, figure) in pooled?.figures ?? [:] { result[name] = .number(figure) }
        if each != nil { result["chunks"] = .array(chunks) }
        return result
    }

    private func show(_ version: LocalRun.Version, held: [String: JSONValue]?) throws(AccrueError) {
        let score = version.score?.figures ?? [:]
        if json {
            var line: [String: JSONValue] = [
                    "version": .integer(version.number), "absorbedChunks": .integer(version.absorbedChunks),
                    "absorbedRows": .integer(version.absorbedRows), "score": .object(score.mapValues { .number($0) }),
                    "state": .string(ContentHash(of: version.state).hex),
                ]
            line["holdout"] = held.map { .object($0) }
            if !version.remarks.isEmpty { line["remarks"] = try JSONValue(encoding: version.remarks) }
            print(JSONValue.object(line).canonical)
        } else {
            func list(_ title: String, _ figure: (String) -> Double?) -> String {
                let found = ["accuracy", "rmse", "logPredictiveDensity", "ece"].compactMap { name in figure(name).map { "\(name) \(Self.short($0))" } }
                return found.isEmpty ? "" : "   \(title): \(found.joined(separator: ", "))"
            }
            print(
                "version \(version.number)   chunks \(version.absorbedChunks)   rows \(version.absorbedRows)"
                    + list("scored before learning") { score[$0] } + list("hold-out") { held?[$0]?.double })
            for remark in version.remarks { print("  \(remark.kind.rawValue): \(remark.text)") }
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
