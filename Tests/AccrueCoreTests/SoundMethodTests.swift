import AccrueCore
import Foundation
import Testing

@Suite("Nothing goes on that is not finite")
struct SoundMethodTests {
    /// A method that makes what it is told to.
    private struct Told: OpaqueMethod {
        var numbers: [Double] = [1]
        var figures: [String: Double] = [:]
        var logDensity = -1.0
        var takesMissing = false

        private var blob: Data { Safetensors(tensors: ["whole": TensorBytes([Int64(3)], shape: [1]), "x": TensorBytes(numbers, shape: [numbers.count])]).encode() }
        let phases = MethodPhases(scores: true, statistics: true)
        func initialState(key: RandomKey) -> Data { blob }
        func adopt(_ imported: Data, into state: Data, key: RandomKey) -> Data { imported }
        func adapt(_ state: Data, from old: Schema, key: RandomKey) -> Data { blob }
        func begin(_ state: Data, round: Round, key: RandomKey) -> Data { state }
        func fit(_ work: Data, to shard: [Rows], round: Round, key: RandomKey) -> (delta: Data, report: FitReport) { (blob, FitReport(steps: 1, figures: figures)) }
        func merge(_ deltas: [(delta: Data, rows: Int)], into work: Data, round: Round, key: RandomKey) -> Data { blob }
        func statistics(of work: Data, on shard: [Rows], round: Round, key: RandomKey) -> Data? { blob }
        func score(_ state: Data, on rows: Rows, key: RandomKey) -> Score? {
            var score = Score()
            score.add(error: 1, logDensity: logDensity, covered: true)
            return score
        }
        func finish(_ work: Data, round: Round, moments: [Data], scores: Score?, key: RandomKey) -> Data { blob }
        func load(_ state: Data) throws(AccrueError) -> any LoadedState { throw AccrueError(.engine, while: "testing", "nothing is loaded here") }
    }

    private let key = RandomKey(seed: 1)
    private let round = Round(index: 1, sweep: 0, sweeps: 1, shards: 1, shardRows: 1, roundRows: 1, rowsBefore: 0, sweepKey: RandomKey(seed: 1))

    private func made(_ told: Told, missing: TensorSchema.MissingRule? = nil) throws -> any OpaqueMethod {
        let schema = Schema([TensorSchema("inputs", role: .input, dtype: .f64, shape: [], missing: missing)])
        return try MethodCatalog(["Told": { _, _ in told }]).make(
            PipelineDeclaration(name: "told", method: "Told", seed: 1, schema: schema, settings: [:], round: .init(chunks: 1)))
    }

    private func rows() throws -> Rows {
        let schema = Schema([TensorSchema("inputs", role: .input, dtype: .f64, shape: [])])
        return try Rows(["inputs": TensorBytes([1.0], shape: [1])], schema: schema, while: "testing")
    }

    @Test("a state, a delta, moments with a number that is not finite have diverged, and the tensor is named", arguments: [Double.nan, .infinity, -.infinity])
    func blobs(value: Double) throws {
        let method = try made(Told(numbers: [1, value, 2])), rows = try rows()
        let steps: [() throws -> Void] = [
            { _ = try method.initialState(key: key) }, { _ = try method.fit(Data(), to: [rows], round: round, key: key) }, { _ = try method.merge([], into: Data(), round: round, key: key) },
            { _ = try method.statistics(of: Data(), on: [rows], round: round, key: key) }, { _ = try method.finish(Data(), round: round, moments: [], scores: nil, key: key) },
            { _ = try method.adapt(Data(), from: Schema([]), key: key) },
        ]
        for step in steps { #expect { try step() } throws: { ($0 as? AccrueError)?.code == .diverged && "\($0)".contains("'x'") } }
        let file = Safetensors(tensors: ["y": TensorBytes([value], shape: [1])]).encode()
        #expect { try method.adopt(file, into: Data(), key: key) } throws: { ($0 as? AccrueError)?.code == .invalidInput && "\($0)".contains("'y'") }
    }

    @Test("so has a fit with such a figure, and a score of such a density or one whose square is")
    func numbers() throws {
        #expect { try made(Told(figures: ["loss": .nan])).fit(Data(), to: [try rows()], round: round, key: key) } throws: { "\($0)".contains("'loss'") }
        for density in [-Double.infinity, .nan, -1e200] {
            #expect { try made(Told(logDensity: density)).score(Data(), on: try rows(), key: key) } throws: { ($0 as? AccrueError)?.code == .diverged }
        }
    }

    @Test("what is finite goes through as it is, and what is no tensor is left alone")
    func finite() throws {
        let told = Told(), method = try made(told)
        #expect(try method.initialState(key: key) == told.initialState(key: key))
        #expect(try method.score(Data(), on: try rows(), key: key) == told.score(Data(), on: try rows(), key: key))
        #expect(try method.adopt(Data("no tensors".utf8), into: Data(), key: key) == Data("no tensors".utf8))
    }

    @Test("a schema with missing values is refused to a method that takes none")
    func missing() throws {
        #expect { try made(Told(), missing: .nan) } throws: { ($0 as? AccrueError)?.code == .invalidInput && "\($0)".contains("'inputs'") }
        #expect(throws: Never.self) { try made(Told(takesMissing: true), missing: .nan) }
    }
}
