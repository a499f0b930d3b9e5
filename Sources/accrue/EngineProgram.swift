import AccrueCore
import Foundation

/// The program `accrue-engine`, which stands beside this one and does the numerical work.
enum EngineProgram {
    /// Replaces this process by the engine, with `input` as its standard input.
    ///
    /// - Throws: `notFound` when the engine is not beside this program, `unavailable` when it cannot be started.
    static func become(_ arguments: [String], input: JSONValue) throws(AccrueError) -> Never {
        let operation = "starting accrue-engine"
        let own = (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")) ?? CommandLine.arguments[0]
        let path = (own as NSString).deletingLastPathComponent + "/accrue-engine"
        guard FileManager.default.isExecutableFile(atPath: path) else {
            throw AccrueError(.notFound, while: operation, "there is no program \(path)", hint: "build or install both programs into one directory")
        }
        let bytes = Array(input.canonical.utf8)
        guard let file = tmpfile() else { throw AccrueError(.unavailable, while: operation, String(cString: strerror(errno)), hint: "check free space in /tmp") }
        let descriptor = fileno(file)
        guard fwrite(bytes, 1, bytes.count, file) == bytes.count, fflush(file) == 0, lseek(descriptor, 0, SEEK_SET) == 0, dup2(descriptor, 0) == 0 else {
            throw AccrueError(.unavailable, while: operation, String(cString: strerror(errno)), hint: "check free space in /tmp")
        }
        // libtorch's BLAS reads these when it is loaded; one thread a fit is part of what makes results repeatable.
        setenv("OMP_NUM_THREADS", "1", 1)
        setenv("OPENBLAS_NUM_THREADS", "1", 1)
        var pointers: [UnsafeMutablePointer<CChar>?] = ([path] + arguments).map { strdup($0) }
        pointers.append(nil)
        execv(path, pointers)
        throw AccrueError(.unavailable, while: operation, String(cString: strerror(errno)), hint: "check that \(path) runs on this machine")
    }
}
