import AccrueCore
import AccrueTesting
import Foundation

/// Runs the built programs as a user would.
struct Program {
    struct Result {
        var status: Int32
        var output: String
        var errors: String
    }

    /// The programs stand beside the test bundle.
    private static let directory: String = {
        let own = (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")) ?? ""
        let bundle = CommandLine.arguments.first { $0.hasSuffix(".xctest") } ?? own
        return (bundle as NSString).deletingLastPathComponent
    }()

    static func path(_ name: String) -> String { name.hasPrefix("/") ? name : "\(directory)/\(name)" }

    static func run(_ name: String, _ arguments: [String], environment: [String: String] = [:]) async throws -> Result {
        try await onOwnThread { try runAndWait(name, arguments, environment) }
    }

    private static func runAndWait(_ name: String, _ arguments: [String], _ environment: [String: String]) throws -> Result {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: path(name))
        process.arguments = arguments
        process.environment = ProcessInfo.processInfo.environment.merging(environment) { _, given in given }
        let output = Pipe(), errors = Pipe()
        process.standardOutput = output
        process.standardError = errors
        process.standardInput = FileHandle.nullDevice
        try process.run()
        // What these commands print fits a pipe's buffer, so reading one after the other cannot block them.
        let printed = output.fileHandleForReading.allBytes()
        let complained = errors.fileHandleForReading.allBytes()
        process.waitUntilExit()
        return Result(
            status: process.terminationStatus, output: String(decoding: printed, as: UTF8.self), errors: String(decoding: complained, as: UTF8.self))
    }
}
