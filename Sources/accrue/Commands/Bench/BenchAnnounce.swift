import AccrueCoordinator
import AccrueCore
import ArgumentParser
import Foundation

extension BenchCommand {
    /// `accrue bench announce`
    struct Announce: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Time the coordinator's part of pushes on one thread, without sockets; no daemon is needed.",
            discussion: """
                An announcement names chunks that are on a worker's disk; it is read, decided on, committed to a log made for it, and answered.

                EXAMPLES
                  accrue bench announce --announcements 1000
                  accrue bench announce --announcements 100 --chunks 16 --json
                """)

        @Option(help: "Announcements.") var announcements = 1_000
        @Option(help: "Chunks of each.") var chunks = 1
        @Option(help: "A directory for the log, which is deleted in the end.") var folder: String?
        @Flag(help: "Print JSON.") var json = false

        func validate() throws {
            guard announcements > 0, (1...Limits.pageItemsMax).contains(chunks), announcements * chunks < Limits.roundChunksMax else {
                throw ValidationError(
                    "--announcements is \(announcements), --chunks \(chunks); at least 1 each, at most \(Limits.pageItemsMax) chunks an announcement and \(Limits.roundChunksMax - 1) in all")
            }
        }

        func run() throws {
            let home = (folder ?? NSTemporaryDirectory()) + "/accrue-bench-announce-\(ProcessInfo.processInfo.processIdentifier)"
            defer { try? FileManager.default.removeItem(atPath: home) }
            let times = try AnnounceMeasurement(home: home, announcements: announcements, chunks: chunks).run().sorted()
            try Output.figures([
                "count": Double(times.count), "medianMs": times[times.count / 2], "minMs": times[0], "p99Ms": times[min(times.count - 1, times.count * 99 / 100)],
            ], json: json)
        }
    }
}
