import AccrueCore
import Foundation

/// A built program that runs until it is told to end; its standard error is read line by line.
final class RunningProgram {
    private let process = Process()
    private let input = Pipe()
    private let errors = Pipe()
    private var rest = Data()

    init(_ name: String, _ arguments: [String]) throws {
        process.executableURL = URL(fileURLWithPath: Program.path(name))
        process.arguments = arguments
        process.standardInput = input
        process.standardError = errors
        process.standardOutput = FileHandle.nullDevice
        try process.run()
    }

    deinit { if process.isRunning { kill(process.processIdentifier, SIGKILL) } }

    var identifier: Int32 { process.processIdentifier }

    /// The next line of standard error that is meant; waits for it.
    /// - Throws: `notFound`, with what was said instead, when the program ended.
    func line(where isMeant: (String) -> Bool) throws -> String {
        var seen: [String] = []
        while true {
            while let end = rest.firstIndex(of: UInt8(ascii: "\n")) {
                let line = String(decoding: rest[..<end], as: UTF8.self)
                rest = Data(rest[(end + 1)...])
                if isMeant(line) { return line }
                seen.append(line)
            }
            let more = errors.fileHandleForReading.availableData
            guard !more.isEmpty else { throw AccrueError(.notFound, while: "waiting for a line", seen.joined(separator: "\n")) }
            rest.append(more)
        }
    }

    func send(_ signal: Int32) { kill(process.processIdentifier, signal) }

    func closeInput() { try? input.fileHandleForWriting.close() }

    /// The exit code; waits for the end.
    func status() -> Int32 {
        process.waitUntilExit()
        return process.terminationReason == .exit ? process.terminationStatus : -process.terminationStatus
    }
}
