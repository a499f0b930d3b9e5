import AccrueCoordinator
import ArgumentParser
import Foundation

extension BenchCommand {
    /// `accrue bench log`
    struct Log: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Time how a coordinator starts with a long log, and goes on in it; no daemon is needed.",
            discussion: """
                The log is made for it: versions of one chunk each, then chunks that wait. What a version takes is the coordinator's decisions only, without the
                disk and without learning.

                EXAMPLES
                  accrue bench log --versions 10000 --waiting 1000
                """)

        @Option(help: "Versions that there are.") var versions = 1_000
        @Option(help: "Chunks that wait.") var waiting = 1_000
        @Option(help: "A directory for the log, which is deleted in the end.") var folder: String?
        @Flag(help: "Print JSON.") var json = false

        func validate() throws {
            guard versions > 0, waiting > 0 else { throw ValidationError("--versions is \(versions), --waiting \(waiting); at least 1 each") }
        }

        func run() throws {
            let home = (folder ?? NSTemporaryDirectory()) + "/accrue-bench-log-\(ProcessInfo.processInfo.processIdentifier)"
            defer { try? FileManager.default.removeItem(atPath: home) }
            let (start, each) = try LogMeasurement(home: home, versions: versions, waiting: waiting).run()
            let sorted = each.sorted()
            try Output.figures(["startMs": start, "medianMs": sorted[sorted.count / 2], "maxMs": sorted[sorted.count - 1]], json: json)
        }
    }
}
