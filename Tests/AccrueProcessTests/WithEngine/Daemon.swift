import AccrueCore
import Foundation

/// `accrue serve` with a home of its own under /tmp, where paths are short, and the commands that talk to it. When it is let go of, everything that it
/// started is gone, and so is the home.
final class Daemon {
    /// What `serve --json` says when it is ready.
    struct Ready: Decodable {
        var control: String
        var events: String
        var ingest: [String]
        var query: [String]
        var http: String?
        var pid: Int32
        var workers: [Int32]
        var querier: Int32
    }

    let home = "/tmp/accrue-d-\(UUID().uuidString.prefix(8))"
    private(set) var ready: Ready
    private var process: RunningProgram
    private let workers: Int
    private let options: [String]

    /// Returns when all have joined.
    init(workers: Int = 2, _ options: [String] = []) async throws {
        self.workers = workers
        self.options = options
        (process, ready) = try await Self.start(home, workers, options)
    }

    deinit {
        process.send(SIGKILL)
        process.waitForEnd()
        try? FileManager.default.removeItem(atPath: home)
        try? FileManager.default.removeItem(atPath: Self.log(home))
    }

    private static func log(_ home: String) -> String { "\(home).log" }

    private static func start(_ home: String, _ workers: Int, _ options: [String]) async throws -> (RunningProgram, Ready) {
        if !FileManager.default.fileExists(atPath: log(home)) { try Data().write(to: URL(fileURLWithPath: log(home))) }
        let errors = try FileHandle(forWritingTo: URL(fileURLWithPath: log(home)))
        try errors.seekToEnd()
        let process = try RunningProgram("accrue", ["serve", "--home", home, "--workers", "\(workers)", "--json"] + options, reading: .standard, other: errors)
        return (process, try JSONDecoder().decode(Ready.self, from: Data(try await process.line().utf8)))
    }

    /// What the daemon and its children have said so far.
    var log: String { (try? String(contentsOfFile: Self.log(home), encoding: .utf8)) ?? "" }

    /// Starts it again, in the same home.
    func restart() async throws { (process, ready) = try await Self.start(home, workers, options) }

    /// Asks it to end, and waits for that.
    /// - Returns: its exit code.
    func stop() async throws -> Int32 {
        process.send(SIGTERM)
        return try await process.status()
    }

    /// Kills the daemon's own process, not its children.
    func kill() async throws {
        process.send(SIGKILL)
        _ = try await process.status()
    }

    /// Process ids of the workers and the querier that run now.
    var children: [Int32] {
        get throws {
            // A child belongs to the thread that started it.
            let threads = "/proc/\(process.identifier)/task"
            return try FileManager.default.contentsOfDirectory(atPath: threads).flatMap { thread in
                (try? String(contentsOfFile: "\(threads)/\(thread)/children", encoding: .utf8))?.split(separator: " ").compactMap { Int32($0) } ?? []
            }.sorted()
        }
    }

    /// Runs a command against it.
    @discardableResult
    func accrue(_ arguments: String...) async throws -> Program.Result { try await Program.run("accrue", arguments, environment: environment) }

    /// Runs a command with `--json` that must succeed.
    /// - Returns: one value a line.
    func json(_ arguments: String...) async throws -> [JSONValue] {
        let result = try await Program.run("accrue", arguments + ["--json"], environment: environment)
        guard result.status == 0 else { throw AccrueError(.engine, while: arguments.joined(separator: " "), "exit \(result.status): \(result.output)\(result.errors)\n\(log)") }
        return try result.output.split(separator: "\n").map { try JSONValue(parsing: Data($0.utf8)) }
    }

    /// Starts a command that goes on; its lines are read as they come.
    func follow(_ arguments: String...) throws -> RunningProgram { try RunningProgram("accrue", arguments, reading: .standard, environment: environment) }

    private var environment: [String: String] { ["ACCRUE_CONNECT": "ipc://\(home)/run/control.sock"] }
}
