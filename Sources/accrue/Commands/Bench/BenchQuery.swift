import AccrueClient
import AccrueCore
import AccrueWire
import ArgumentParser

extension BenchCommand {
    /// `accrue bench query NAME VERB …`
    struct Query: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Ask the same kind of question again and again over one connection, and say how long answers took.",
            discussion: """
                Each question takes the next rows of the file. Versions that appear meanwhile are counted, and the first answer from each of them is
                timed apart: it shows what a swap costs those who ask.

                EXAMPLES
                  accrue bench query digits predict --tensor inputs=images.gz --draws 16
                  accrue bench query digits predict --tensor inputs=images.gz --rows-per-question 100 --seconds 30 --json
                """)

        @Argument(help: "The pipeline.") var name: String
        @Argument(help: "What to ask.") var verb: String
        @OptionGroup var rows: RowOptions
        @Option(help: "Rows a question.") var rowsPerQuestion = 1
        @Option(help: "Draws from the posterior; else as many as the method finds right.") var draws: Int?
        @Option(help: "How long to go on.") var seconds = 10.0
        @Option(help: "Who ask at the same time, each over a connection of its own.") var clients = 1
        @Flag(help: "Print JSON.") var json = false
        @OptionGroup var connection: ConnectOptions

        func validate() throws {
            guard rowsPerQuestion > 0 else { throw ValidationError("--rows-per-question must be at least 1") }
            guard (1...256).contains(clients) else { throw ValidationError("--clients is \(clients); it must be 1 to 256") }
            guard seconds > 0 else { throw ValidationError("--seconds must be above 0") }
        }

        func run() async throws {
            let read = try rows.read(while: "reading the questions' rows")
            let ranges = read.ranges(perRange: min(rowsPerQuestion, read.count))
            let header: JSONValue = draws.map { ["draws": .integer($0)] } ?? [:]
            let name = name, verb = verb, seconds = seconds
            let start = MonotonicTime.now()
            let timings = try await withThrowingTaskGroup(of: QueryTimings.self) { group in
                for client in 0..<clients {
                    let cluster = try await connection.open()
                    group.addTask {
                        var timings = QueryTimings()
                        while MonotonicTime.now().ms(since: start) < Int(seconds * 1_000) {
                            let tensors = read.tensors(ranges[(timings.count + client * 101) % ranges.count])
                            let question = PosteriorQuestion(pipeline: name, content: QueryBytes(verb: verb, header: header, tensors: tensors))
                            let before = MonotonicTime.now()
                            let answer = try await cluster.query(question)
                            timings.add(nanoseconds: MonotonicTime.now().nanoseconds - before.nanoseconds, version: answer.reply.version)
                        }
                        return timings
                    }
                }
                return try await group.reduce(into: QueryTimings()) { $0.add($1) }
            }
            let elapsed = Double(MonotonicTime.now().nanoseconds - start.nanoseconds) / 1e9
            var figures = timings.figures
            figures["answersPerSecond"] = Double(timings.count) / elapsed
            try Output.figures(figures, json: json)
        }
    }
}

/// How long answers took, and which versions gave them.
struct QueryTimings {
    private var milliseconds: [Double] = []
    private var firstOfVersion: [Double] = []
    private var version: Int?

    var count: Int { milliseconds.count }

    mutating func add(nanoseconds: UInt64, version: Int) {
        let time = Double(nanoseconds) / 1e6
        milliseconds.append(time)
        if let last = self.version, last != version { firstOfVersion.append(time) }
        self.version = version
    }

    /// Another client's beside these.
    mutating func add(_ other: QueryTimings) {
        milliseconds += other.milliseconds
        firstOfVersion += other.firstOfVersion
    }

    /// Milliseconds but for the counts; `firstAnswer…` are of answers that were the first from a new version.
    var figures: [String: Double] {
        let sorted = milliseconds.sorted(), first = firstOfVersion.sorted()
        func quantile(_ values: [Double], _ share: Double) -> Double { values.isEmpty ? 0 : values[min(values.count - 1, Int(Double(values.count) * share))] }
        return [
            "answers": Double(sorted.count), "medianMs": quantile(sorted, 0.5), "p90Ms": quantile(sorted, 0.9), "p99Ms": quantile(sorted, 0.99),
            "maxMs": sorted.last ?? 0, "newVersions": Double(first.count), "firstAnswerMedianMs": quantile(first, 0.5), "firstAnswerMaxMs": first.last ?? 0,
        ]
    }
}
