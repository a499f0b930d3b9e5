import AccrueClient
import AccrueCore
import AccrueWire
import ArgumentParser

/// What becomes of pushed chunks: the end of `push --wait`.
struct PushOutcome {
    let cluster: ClusterConnection
    let pipeline: String
    let progress: ProgressLine

    /// Ends the open round and returns when all chunks are absorbed and, where queriers are there, queries are answered from a version that absorbed them.
    /// - Throws: exit code 1 when one is set aside or forgotten, with the reason on standard error.
    func wait(for positions: [Int]) async throws {
        _ = try await cluster.flush(pipeline, isPatient: true)
        var lastTrouble: String?
        var version: Int?
        var lost = 0
        for (index, position) in positions.enumerated() {
            progress.show("absorbed \(index) of \(positions.count) chunks\(version.map { ", version \($0)" } ?? "")")
            let outcome = try await cluster.outcome(ofPosition: position, in: pipeline) { () throws(AccrueError) in
                let trouble = StatusText.trouble(of: try await cluster.pipeline(pipeline).status)
                if let trouble, trouble != lastTrouble {
                    progress.clear()
                    Output.note("accrue: pipeline '\(pipeline)' is \(trouble)")
                }
                lastTrouble = trouble
            }
            version = outcome.version ?? version
            guard outcome.state != .absorbed else { continue }
            lost += 1
            progress.clear()
            Output.note("accrue: the chunk at position \(position) is \(outcome.state == .forgotten ? "forgotten" : "set aside"): \(outcome.reason ?? "no reason given")")
        }
        progress.clear()
        guard lost == 0 else { throw ExitCode(1) }
        Output.note("all \(positions.count) chunks are absorbed\(version.map { "; version \($0)" } ?? "")")
        if let version { await waitUntilServed(version) }
    }

    /// A querier makes a version ready before it serves it. That this fails does not make the chunks less absorbed.
    private func waitUntilServed(_ version: Int) async {
        do throws(AccrueError) { try await cluster.served(version, of: pipeline) } catch {
            // Who may push need not be one who may ask.
            guard error.code != .unauthorised else { return }
            Output.note("accrue: queries may still be answered from an earlier version than \(version): \(error.problem)")
        }
    }
}
