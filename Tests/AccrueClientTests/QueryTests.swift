import AccrueClient
import AccrueCore
import AccrueWire
import Foundation
import Synchronization
import Testing

@Suite("Asking a posterior", .timeLimit(.minutes(10)))
struct QueryTests {
    /// Predicts every row's input itself; its versions grow with every question to the newest.
    static func predictor(_ asked: Asked) -> ClusterEnd.Answer {
        { (message) throws(AccrueError) in
            let query: QueryHeader = try message.read()
            let number = asked.add(query.at)
            let version = query.at ?? number
            let tensors = try Safetensors.decode(Data(message.payload.joined())).tensors
            let inputs = tensors["inputs"]?.doubles() ?? [], targets = tensors["targets"]?.doubles() ?? []
            var score = Score()
            for (input, target) in zip(inputs, targets) { score.add(error: target - input, logDensity: -input, covered: input < 500, epistemicVariance: input) }
            var header: [String: JSONValue] = ["rows": .integer(inputs.count), "meanEpistemic": .number(inputs.reduce(0, +) / Double(inputs.count))]
            header["figures"] = .object(score.figures.mapValues { .number($0) })
            header["score"] = try JSONValue(encoding: score)
            let answer = Safetensors(tensors: ["mean": TensorBytes(inputs, shape: [inputs.count])]).encode()
            let reply = QueryReply(pipeline: query.pipeline, version: version, absorbedChunks: version, absorbedRows: 0, header: .object(header))
            return try .reply(message.id, encoding: reply, payload: [answer])
        }
    }

    /// Which versions were asked for, in order.
    final class Asked: Sendable {
        private let versions = Mutex<[Int?]>([])
        /// - Returns: how many have been asked for.
        @discardableResult
        func add(_ version: Int?) -> Int { versions.withLock { $0.append(version); return $0.count } }
        var all: [Int?] { versions.withLock { $0 } }
    }

    static func rows(_ count: Int) throws -> TensorRows {
        let inputs = (0..<count).map { Double($0 * 7 % 1_009) }
        return try TensorRows(["inputs": TensorBytes(inputs, shape: [count]), "targets": TensorBytes(inputs.map { $0 + 1 }, shape: [count])], while: "testing")
    }

    static let question = PosteriorQuestion(pipeline: "p", content: QueryBytes(verb: "predict", header: [:]))

    @Test("many rows are asked in parts of one version, and answered as if they had been asked at once")
    func parts() async throws {
        let end = try ClusterEnd()
        let asked = Asked()
        try end.addQuerier("q", Self.predictor(asked))
        let connection = try await end.connection()
        let rows = try Self.rows(2_500)
        var progress: [Int] = []
        let answer = try await connection.query(Self.question, rows: rows) { progress.append($0) }
        #expect(asked.all == [nil, 1, 1] && progress == [1_000, 2_000, 2_500] && answer.reply.version == 1)

        var whole = Self.question
        whole.content.tensors = rows.tensors
        let atOnce = try await connection.query(whole)
        #expect(answer.tensors == atOnce.tensors && answer.reply.header["rows"] == 2_500)
        for name in ["rmse", "coverage", "logPredictiveDensity", "meanEpistemic"] {
            let joined = try #require(answer.reply.header["figures"]?[name]?.double), one = try #require(atOnce.reply.header["figures"]?[name]?.double)
            #expect(abs(joined - one) <= 1e-12 * abs(one), "\(name)")
        }
        let mean = try #require(answer.reply.header["meanEpistemic"]?.double), meanAtOnce = try #require(atOnce.reply.header["meanEpistemic"]?.double)
        #expect(abs(mean - meanAtOnce) < 1e-9)
    }

    @Test("a pipeline made anew between two parts is noticed")
    func madeAnew() async throws {
        let end = try ClusterEnd()
        let predict = Self.predictor(Asked())
        try end.addQuerier("q") { (message) throws(AccrueError) in
            var message = message
            if case .object(var header) = message.header {
                header["at"] = nil
                message.header = .object(header)
            }
            return try predict(message)
        }
        let connection = try await end.connection()
        let rows = try Self.rows(1_500)
        await #expect { try await connection.query(Self.question, rows: rows) } throws: { ($0 as? AccrueError)?.code == .conflict }
    }

    @Test("wide rows are asked a few at a time")
    func wideRows() throws {
        let rows = try TensorRows(["inputs": TensorBytes(dtype: .u8, shape: [10, 1 << 20], data: Data(count: 10 << 20))], while: "testing")
        #expect(rows.rows(inBytes: 4 << 20, atMost: 1_000) == 4)
        #expect(rows.rows(inBytes: 1_000, atMost: 1_000) == 1)
    }

    @Test("when a querier dies over a question another answers it")
    func failover() async throws {
        let end = try ClusterEnd()
        let asked = Asked()
        let dying = Mutex(["a", "b"])
        for name in ["a", "b"] {
            let predict = Self.predictor(asked)
            try end.addQuerier(name) { [weak end] message throws(AccrueError) in
                // The first to be asked dies of it.
                let isFirst = dying.withLock { dying in
                    defer { dying = [] }
                    return !dying.isEmpty
                }
                if isFirst { end?.remove(name) }
                return isFirst ? nil : try predict(message)
            }
        }
        #expect(try await end.connection().query(Self.question, rows: Self.rows(3)).reply.header["rows"] == 3)
    }

    @Test("a version counts as served when every querier has answered from it, whatever it answers to that question")
    func served() async throws {
        let end = try ClusterEnd()
        let asked = Mutex<[Int?]>([])
        try end.addQuerier("a") { (message) throws(AccrueError) in
            asked.withLock { $0.append((try? message.read(QueryHeader.self))?.atLeast) }
            return try .reply(message.id, encoding: QueryReply(pipeline: "p", version: 4, absorbedChunks: 4, absorbedRows: 4, header: [:]))
        }
        try end.addQuerier("b") { (message) throws(AccrueError) in
            asked.withLock { $0.append((try? message.read(QueryHeader.self))?.atLeast) }
            throw AccrueError(.notFound, while: "testing", "this method does not answer 'describe'")
        }
        try await end.connection().served(4, of: "p")
        #expect(asked.withLock { $0 } == [4, 4])
        let behind = AccrueError(.unavailable, while: "testing", "its newest version is 3, and at least 4 is wanted")
        try end.addQuerier("c") { (_) throws(AccrueError) in throw behind }
        let connection = try await end.connection()
        await #expect(throws: behind) { try await connection.served(4, of: "p") }
    }

    @Test("rows are cut by first row and number, and none left is refused")
    func stretches() throws {
        let rows = try Self.rows(10)
        #expect(try rows.stretch(from: 4, rows: 3, while: "testing").tensors["targets"]?.doubles() == rows.tensors["targets"]?.rows(4..<7).doubles())
        #expect(try rows.stretch(from: 8, rows: 5, while: "testing").count == 2)
        #expect(rows.ranges(perRange: 4) == [0..<4, 4..<8, 8..<10])
        for (first, count) in [(10, nil), (-1, nil), (0, 0)] as [(Int, Int?)] {
            #expect { try rows.stretch(from: first, rows: count, while: "testing") } throws: { ($0 as? AccrueError)?.code == .invalidInput }
        }
        let uneven = ["a": TensorBytes([1.0], shape: [1]), "b": TensorBytes([1.0, 2], shape: [2])]
        #expect { try TensorRows(uneven, while: "testing") } throws: { ($0 as? AccrueError)?.code == .invalidInput }
        #expect { try TensorRows([:], while: "testing") } throws: { ($0 as? AccrueError)?.code == .invalidInput }
    }
}
