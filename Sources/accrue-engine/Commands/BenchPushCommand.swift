import AccrueCore
import AccrueWorker
import ArgumentParser
import Foundation

/// `accrue-engine bench-push`: what a worker does for one push after the other, in this process, without sockets.
struct BenchPushCommand: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "bench-push", abstract: "Time a worker's part of pushes, without sockets.")

    @Option(help: "Pushes.") var chunks = 1_000
    @Option(help: "Rows of a chunk, 1024 bytes each.") var rows = 4
    @Option(help: "A directory for the spool; it is deleted in the end.") var folder: String?
    @Flag(help: "One JSON object.") var json = false

    func validate() throws {
        guard (1...100_000).contains(chunks), (1...10_000).contains(rows), chunks * rows <= 1 << 20 else {
            throw ValidationError("--chunks is \(chunks), --rows \(rows); at least 1, together at most \(1 << 20) rows")
        }
    }

    func run() throws {
        let folder = (folder ?? NSTemporaryDirectory()) + "/accrue-bench-push-\(ProcessInfo.processInfo.processIdentifier)"
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let pushes = try PushMeasurement(folder: folder, chunks: chunks, rows: rows, width: 256) { error in
            FileHandle.standardError.write(Data("\(error)\n".utf8))
            Foundation.exit(1)
        }
        BenchProblem.show(try pushes.run(), json: json)
    }
}
