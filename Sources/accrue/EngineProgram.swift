import AccrueCore
import Foundation

/// The program `accrue-engine`, which stands beside this one and does the numerical work.
enum EngineProgram {
    /// libtorch's BLAS reads these when it is loaded; one thread a fit is part of what makes results repeatable.
    static let environment = ["OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"]

    static var isThere: Bool { FileManager.default.isExecutableFile(atPath: place) }

    private static var place: String {
        let own = (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")) ?? CommandLine.arguments[0]
        return (own as NSString).deletingLastPathComponent + "/accrue-engine"
    }

    /// - Throws: `notFound` when the engine is not beside this program.
    static func path() throws(AccrueError) -> String {
        let path = place
        guard FileManager.default.isExecutableFile(atPath: path) else {
            throw AccrueError(.notFound, while: "starting accrue-engine", "there is no program \(path)", hint: "build or install both programs into one directory")
        }
        return path
    }

    /// Replaces this process by the engine.
    ///
    /// - Parameter input: what the engine finds on its standard input; nil: this process's.
    /// - Throws: `notFound` when the engine is not beside this program, `unavailable` when it cannot be started.
    static func become(_ arguments: [String], input: JSONValue? = nil) throws(AccrueError) -> Never {
        let operation = "starting accrue-engine"
        let path = try path()
        if let input, dup2(try descriptor(of: input, while: operation), 0) != 0 {
            throw AccrueError(.unavailable, while: operation, String(cString: strerror(errno)), hint: "check the limit of open files (ulimit -n)")
        }
        for (name, value) in environment { setenv(name, value, 1) }
        var pointers: [UnsafeMutablePointer<CChar>?] = ([path] + arguments).map { strdup($0) }
        pointers.append(nil)
        execv(path, pointers)
        throw AccrueError(.unavailable, while: operation, String(cString: strerror(errno)), hint: "check that \(path) runs on this machine")
    }

    /// A file without a name that holds the value, to be read from its start; it stays open as long as this process, which asks once.
    private static func descriptor(of input: JSONValue, while operation: String) throws(AccrueError) -> Int32 {
        let bytes = Array(input.canonical.utf8)
        guard let file = tmpfile(), fwrite(bytes, 1, bytes.count, file) == bytes.count, fflush(file) == 0, lseek(fileno(file), 0, SEEK_SET) == 0 else {
            throw AccrueError(.unavailable, while: operation, String(cString: strerror(errno)), hint: "check free space in /tmp")
        }
        return fileno(file)
    }

    /// Runs the engine and returns what it prints.
    ///
    /// - Parameter input: what it finds on its standard input; nil: nothing.
    /// - Throws: `notFound` when it is not there; what it says, where it fails with an error of its own as JSON; `engine` when it fails otherwise, with its words.
    static func output(_ arguments: [String], input: JSONValue? = nil) throws(AccrueError) -> Data {
        let operation = "running accrue-engine \(arguments.joined(separator: " "))"
        let process = Process(), output = Pipe(), errors = Pipe()
        process.executableURL = URL(fileURLWithPath: try path())
        process.arguments = arguments
        process.environment = ProcessInfo.processInfo.environment.merging(environment) { _, added in added }
        process.standardInput = try input.map { (input) throws(AccrueError) in
            FileHandle(fileDescriptor: try descriptor(of: input, while: operation), closeOnDealloc: false)
        } ?? .nullDevice
        process.standardOutput = output
        process.standardError = errors
        do { try process.run() } catch { throw AccrueError(.unavailable, while: operation, error.reason, hint: "check that accrue-engine runs on this machine") }
        // What is asked for here fits a pipe's buffer, so reading one after the other cannot block it.
        let printed = output.fileHandleForReading.allBytes()
        let complaint = String(decoding: errors.fileHandleForReading.allBytes(), as: UTF8.self).trimmingCharacters(in: .whitespacesAndNewlines)
        process.waitUntilExit()
        guard process.terminationReason == .exit, process.terminationStatus == 0 else {
            if let said = try? JSONValue(parsing: printed)["error"]?.decode(AccrueError.self, while: operation) { throw said }
            throw AccrueError(.engine, while: operation, complaint.isEmpty ? "it failed" : complaint, hint: "run it by hand; its libraries may be missing")
        }
        return printed
    }
}
