import AccrueCore
import Foundation
import Glibc
import Testing

@testable import AccrueCore

@Suite("Threads for work")
struct WorkThreadsTests {
    private static func nice() -> Int32 { getpriority(__priority_which_t(PRIO_PROCESS.rawValue), 0) }

    @Test("a yielding thread is nicer than its process; the others are not")
    func priority() async {
        let own = Self.nice()
        let yielding = WorkThreads("yielding", priority: .yielding), normal = WorkThreads("normal")
        #expect(await yielding.run { Self.nice() } == max(own, WorkThreads.yieldingNice))
        #expect(await normal.run { Self.nice() } == own)
    }

    @Test("what is to be done first on a thread is done before its first work, once")
    func beginning() async {
        let threads = WorkThreads("begun") { Thread.current.threadDictionary["begun"] = (Thread.current.threadDictionary["begun"] as? Int ?? 0) + 1 }
        for _ in 0..<3 { #expect(await threads.run { Thread.current.threadDictionary["begun"] as? Int } == 1) }
    }

    @Test("work is done in the order in which it was given")
    func order() async {
        let threads = WorkThreads("ordered")
        let (stream, continuation) = AsyncStream<Int>.makeStream()
        for number in 0..<100 { threads.submit { continuation.yield(number) } }
        threads.submit { continuation.finish() }
        var seen: [Int] = []
        for await number in stream { seen.append(number) }
        #expect(seen == Array(0..<100))
    }
}
