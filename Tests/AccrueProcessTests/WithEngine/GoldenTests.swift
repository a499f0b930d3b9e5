import AccrueCore
import Foundation
import Testing

/// The closed form of pipelines/linear-golden.yaml, learned by real processes.
@Suite("The golden case on real processes", .serialized, .timeLimit(.minutes(10)))
struct GoldenTests {
    @Test("mean and covariance are exact to 1e-9 for 1, 2 and 4 shards and any chunking", arguments: [1, 2])
    func exact(workers: Int) async throws {
        let daemon = try await Daemon(workers: workers)
        let rows = try GoldenRows()
        for shards in [1, 2, 4] {
            for rowsPerChunk in 1...4 {
                let name = "golden-\(shards)-\(rowsPerChunk)"
                try await daemon.accrue("pipeline", "apply", try rows.pipeline(name, replacing: ["shards: 2": "shards: \(shards)"]))
                let push = try await daemon.accrue("push", name, "--tensor", rows.inputs, "--tensor", rows.targets, "--rows-per-chunk", "\(rowsPerChunk)", "--wait")
                #expect(push.status == 0, "\(push.errors)")
                let described = try #require(try await daemon.json("query", name, "describe").first)
                for (field, truth) in [
                    "mean": [0.8244274809160306, 0.9160305343511451],
                    "covariance": [0.1450381679389313, -0.0610687022900763, -0.0610687022900763, 0.0432569974554707],
                ] {
                    let found = Expectation.flatten(try #require(described[field]))
                    #expect(found.count == truth.count && zip(found, truth).allSatisfy { abs($0 - $1) <= 1e-9 }, "\(name), \(workers) workers: \(field) \(found)")
                }
            }
        }
    }
}
