import AccrueClient
import AccrueCore
import ArgumentParser
import Foundation

/// `accrue query NAME VERB …`
struct QueryCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "query", abstract: "Ask a pipeline's posterior; the answer says which version it rests on.",
        discussion: """
            What can be asked depends on the pipeline's method: predict, describe, sparsity, export, …. 'predict' takes any number of rows; with the target tensor
            too, the answer has figures of how good the predictions are.

            EXAMPLES
              accrue query digits predict --tensor inputs=images.gz --rows 5 --draws 16
              accrue query digits predict --tensor inputs=images.gz \\
                --tensor targets=labels.gz --summary --json
              accrue query energy predict readings.csv
              accrue query digits describe --at 3
              accrue query digits predict --tensor inputs=images.gz --at-least 4
              accrue query digits sparsity --header '{"threshold": 2}'
              accrue query digits export --out pruned.safetensors
            """)

    @Argument(help: "The pipeline.") var name: String
    @Argument(help: "What to ask.") var verb: String
    @Argument(help: "A CSV file with the rows to ask about; its columns are mapped by the pipeline's schema, those of targets may be missing.") var file: String?
    @OptionGroup var rows: RowOptions
    @Option(help: "Draws from the posterior; else as many as the method finds right.") var draws: Int?
    @Option(help: "A version; else the newest.") var at: Int?
    @Option(help: "Not from a version before this one: fail if there is none yet.") var atLeast: Int?
    @Option(help: "Of the draws: the same seed and version give the same answer.") var seed: Int?
    @Option(help: ArgumentHelp("More for the method, as a JSON object.", valueName: "json")) var header: String?
    @Option(help: "Write the answer's tensors to this file (safetensors), what else it says in the metadata 'answer', instead of printing them.") var out: String?
    @Flag(help: "Only figures about all rows, no answer a row.") var summary = false
    @Flag(help: "Print JSON.") var json = false
    @OptionGroup var connection: ConnectOptions

    func run() async throws {
        let operation = "asking pipeline '\(name)' to '\(verb)'"
        let cluster: ClusterConnection, read: TensorRows?
        if let file {
            cluster = try await connection.open()
            read = try rows.read(csv: file, schema: try await cluster.pipeline(name).declaration.schema, needsTargets: false, while: operation)
        } else {
            read = rows.tensors.isEmpty ? nil : try rows.read(while: operation)
            cluster = try await connection.open()
        }
        let question = PosteriorQuestion(pipeline: name, content: QueryBytes(verb: verb, header: try fullHeader(), tensors: read?.tensors ?? [:]), at: at, atLeast: atLeast, seed: seed)
        let progress = ProgressLine()
        defer { progress.clear() }
        var answer: PosteriorAnswer
        if let read, verb == "predict" {
            answer = try await cluster.query(question, rows: read) { if $0 < read.count { progress.show("answered \($0) of \(read.count) rows") } }
        } else {
            answer = try await cluster.query(question)
        }
        progress.clear()
        if let out {
            try write(answer, to: out)
            answer.tensors = [:]
        }
        if json { Output.line(answer.json.canonical) } else { AnswerText(answer).lines.forEach(Output.line) }
    }

    private func write(_ answer: PosteriorAnswer, to path: String) throws(AccrueError) {
        let operation = "writing the answer to \(path)"
        guard !answer.tensors.isEmpty else { throw AccrueError(.invalidInput, while: operation, "the answer to '\(verb)' has no tensors", hint: "leave --out out") }
        let metadata = ["answer": answer.reply.header.canonical, "pipeline": answer.reply.pipeline, "version": String(answer.reply.version)]
        do { try Safetensors(tensors: answer.tensors, metadata: metadata).encode().write(to: URL(fileURLWithPath: path), options: .atomic) } catch {
            throw AccrueError(.unavailable, while: operation, error.reason, hint: "check that the folder exists and can be written")
        }
    }

    private func fullHeader() throws(AccrueError) -> JSONValue {
        var fields: [String: JSONValue] = [:]
        if let header {
            guard let given = try JSONValue(parsing: Data(header.utf8)).object else {
                throw AccrueError(.invalidInput, while: "reading --header", "it is not a JSON object", hint: #"for example --header '{"count": 3}'"#)
            }
            fields = given
        }
        if let draws { fields["draws"] = .integer(draws) }
        if summary { fields["summary"] = true }
        return .object(fields)
    }
}
