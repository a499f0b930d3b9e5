import AccrueCore
import AccrueWire
import Foundation
import Synchronization

/// A child program that is started again whenever it ends.
final class SupervisedChild: Sendable {
    /// A child that has been asked to end may take this long: then it is killed, and what it was doing is done again by others or at its next start.
    private static let patienceMs = 6_000

    let name: String
    private let program: String
    private let arguments: [String]
    private let current = Mutex<pid_t?>(nil)

    init(name: String, program: String, arguments: [String]) {
        self.name = name
        self.program = program
        self.arguments = arguments
    }

    /// Of the process that runs now.
    var pid: pid_t? { current.withLock { $0 } }

    /// Keeps the child running until this task is cancelled; then asks it to end and returns when it has.
    func run(report: @Sendable (String) -> Void) async {
        var delay = RestartDelay()
        while !Task.isCancelled {
            let start = MonotonicTime.now()
            var problem: String
            do throws(AccrueError) {
                let process = try ChildProcess(program, arguments, environment: EngineProgram.environment)
                current.withLock { $0 = process.pid }
                let end = await withTaskCancellationHandler { await process.ended() } onCancel: { process.stop(killAfterMs: Self.patienceMs) }
                current.withLock { $0 = nil }
                problem = "\(name) ended \(end)"
            } catch { problem = "\(name): \(error.problem)" }
            if Task.isCancelled { return }
            let ms = delay.ms(afterLivingMs: MonotonicTime.now().ms(since: start))
            report("\(problem); it is started again in \(ms) ms")
            try? await Task.sleep(for: .milliseconds(ms))
        }
    }
}

/// How long to wait before a child that ended is started again: longer each time, and from the beginning again after it has lived for a while.
struct RestartDelay: Sendable {
    private static let firstMs = 200, longestMs = 5_000, soundMs = 30_000
    private var nextMs = firstMs

    mutating func ms(afterLivingMs lived: Int) -> Int {
        if lived >= Self.soundMs { nextMs = Self.firstMs }
        defer { nextMs = min(nextMs * 2, Self.longestMs) }
        return nextMs
    }
}
