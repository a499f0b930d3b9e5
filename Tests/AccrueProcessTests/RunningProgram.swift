import AccrueCore
import AccrueTesting
import Foundation

/// A built program that runs until it is told to end; one of its outputs is read line by line. Used by one test, one call at a time.
final class RunningProgram: @unchecked Sendable {
    enum Output { case standard, errors }

    private let process = Process()
    private let input = Pipe()
    private let pipe = Pipe()
    private var rest = Data()

    /// - Parameter other: where the output that is not read goes.
    init(
        _ name: String, _ arguments: [String], reading output: Output = .errors, other: FileHandle = .nullDevice, environment: [String: String] = [:]
    ) throws {
        process.executableURL = URL(fileURLWithPath: Program.path(name))
        process.arguments = arguments
        process.environment = ProcessInfo.processInfo.environment.merging(environment) { _, given in given }
        process.standardInput = input
        process.standardOutput = output == .standard ? pipe : other
        process.standardError = output == .errors ? pipe : other
        try process.run()
    }

    deinit { if process.isRunning { kill(process.processIdentifier, SIGKILL) } }

    var identifier: Int32 { process.processIdentifier }

    /// The next line that is meant; waits for it.
    /// - Throws: `notFound`, with what was said instead, when the program ended.
    func line(where isMeant: @escaping @Sendable (String) -> Bool = { _ in true }) async throws -> String {
        try await onOwnThread { try self.nextLine(isMeant) }
    }

    private func nextLine(_ isMeant: (String) -> Bool) throws -> String {
        var seen: [String] = []
        while true {
            while let end = rest.firstIndex(of: UInt8(ascii: "\n")) {
                let line = String(decoding: rest[..<end], as: UTF8.self)
                rest = Data(rest[(end + 1)...])
                if isMeant(line) { return line }
                seen.append(line)
            }
            let more = pipe.fileHandleForReading.nextBytes()
            guard !more.isEmpty else { throw AccrueError(.notFound, while: "waiting for a line", seen.joined(separator: "\n")) }
            rest.append(more)
        }
    }

    func send(_ signal: Int32) { kill(process.processIdentifier, signal) }

    func closeInput() { try? input.fileHandleForWriting.close() }

    /// The exit code; waits for the end.
    func status() async throws -> Int32 {
        try await onOwnThread { self.waitForEnd() }
    }

    /// The same, blocking this thread.
    @discardableResult
    func waitForEnd() -> Int32 {
        process.waitUntilExit()
        return process.terminationReason == .exit ? process.terminationStatus : -process.terminationStatus
    }
}
