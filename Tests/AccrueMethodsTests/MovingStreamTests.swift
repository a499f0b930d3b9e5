import AccrueCore
import AccrueMethods
import AccrueTensor
import Foundation
import Testing

@Suite("Streams that move")
struct MovingStreamTests {
    private let schema = Schema([
        TensorSchema("inputs", role: .input, dtype: .f32, shape: [2]), TensorSchema("targets", role: .target, dtype: .u8, shape: [], classes: ["a", "b"]),
    ])

    /// Two Gaussian clouds at ±(1.5, 0), turned by an angle (radians).
    private func rows(_ count: Int, angle: Double, seed: UInt64) throws -> Rows {
        let key = RandomKey(seed: seed)
        let noise = try key.normal([count, 2]).floats()
        let targets = (0..<count).map { UInt8($0 % 2) }
        let inputs = (0..<count).flatMap { row -> [Float] in
            let side: Float = targets[row] == 0 ? -1.5 : 1.5
            return [side * Float(cos(angle)) + noise[2 * row], side * Float(sin(angle)) + noise[2 * row + 1]]
        }
        return try Rows(["inputs": TensorBytes(inputs, shape: [count, 2]), "targets": TensorBytes(targets, shape: [count])], schema: schema, while: "testing")
    }

    /// What `describe` says of each version after version 0.
    private func learn(_ parts: [Rows], _ settings: [String: JSONValue], shards: Int = 1) throws -> [(state: Data, said: JSONValue, remarks: [Remark])] {
        let base: [String: JSONValue] = ["model": ["kind": "linear"], "epochs": 20, "batch": 20, "learningRate": 0.02, "fisherRows": 200]
        let pipeline = PipelineDeclaration(name: "moving", method: "IncrementalBayes", seed: 3, schema: schema,
            settings: .object(base.merging(settings) { $1 }), round: .init(chunks: 1), shards: shards)
        let method = try MethodCatalog.standard.make(pipeline)
        guard let all = Rows.joined(parts) else { return [] }
        var start = 0
        let chunks = parts.map { part in defer { start += part.count }; return start..<start + part.count }
        var versions: [(Data, JSONValue, [Remark])] = []
        let run = LocalRun(pipeline: pipeline, method: method, rows: all, chunks: chunks)
        _ = try run.run { (version) throws(AccrueError) in
            guard version.number > 0 else { return }
            let said = try method.load(version.state).answer(QueryBytes(verb: "describe", header: [:]), key: RandomKey(seed: 1)).header
            versions.append((version.state, said, version.remarks))
        }
        return versions
    }

    private func accuracy(_ state: Data, _ settings: [String: JSONValue], on rows: Rows) throws -> Double {
        let base: [String: JSONValue] = ["model": ["kind": "linear"]]
        let pipeline = PipelineDeclaration(name: "moving", method: "IncrementalBayes", seed: 3, schema: schema, settings: .object(base.merging(settings) { $1 }), round: .init(chunks: 1))
        let answer = try MethodCatalog.standard.make(pipeline).load(state).answer(QueryBytes(verb: "predict", header: ["summary": true], tensors: rows.tensors), key: RandomKey(seed: 2))
        return answer.header["figures"]?["accuracy"]?.double ?? 0
    }

    @Test("a stream that turns around is a drift in that round and in no other, and then less of the past is kept")
    func drift() throws {
        let parts = try (0..<6).map { try rows(200, angle: $0 < 4 ? 0 : 3.1, seed: UInt64($0)) }
        let wide = try learn(parts, ["keepOnDrift": 0.1]), stiff = try learn(parts, [:])
        #expect(wide.map { $0.said["drift"]?["drifted"]?.bool } == [false, false, false, false, true, false])
        #expect(wide.map { $0.remarks.map(\.kind) } == [[], [], [], [], [.drift], []])
        #expect(wide[4].remarks[0].text.contains("0.1 of the past's precision is kept") && !stiff[4].remarks[0].text.contains("is kept"))
        // Up to the drift both are the same; after it the one that forgot is less sure of what no longer holds.
        #expect(wide[3].state == stiff[3].state && wide[4].state != stiff[4].state)
        let later = try rows(1_000, angle: 3.1, seed: 99)
        #expect(try accuracy(wide[5].state, [:], on: later) > (try accuracy(stiff[5].state, [:], on: later)))
    }

    @Test("kept rows hold on to what the prior alone forgets when parts are of one class each")
    func reservoir() throws {
        let mixed = try (0..<4).map { try rows(400, angle: 0.5, seed: 20 + UInt64($0)) }
        // Parts of one class after the first one.
        let parts = mixed.enumerated().map { part, rows in
            part == 0 ? rows.rows(0..<200) : rows.rows(at: (0..<400).filter { $0 % 2 == part % 2 })
        }
        let kept: [String: JSONValue] = ["reservoir": ["rows": 60, "share": 0.5], "temperature": 0.1]
        let held = try rows(2_000, angle: 0.5, seed: 50)
        let with = try accuracy(try #require(learn(parts, kept).last).state, [:], on: held)
        let without = try accuracy(try #require(learn(parts, ["temperature": 0.1, "keep": 0.5]).last).state, [:], on: held)
        #expect(with > without)
    }

    @Test("with labelShift, parts nearly all of one class still teach how classes differ; predictions have the shares of all rows so far")
    func labelShift() throws {
        // Of each part's 204 rows 200 are of one class, by turns.
        let parts = try (0..<4).map { part in
            let rows = try rows(400, angle: 0.5, seed: 20 + UInt64(part))
            return rows.rows(at: (0..<400).filter { $0 % 2 == part % 2 || $0 < 8 })
        }
        let held = try rows(4_000, angle: 0.5, seed: 50)
        let settings: [String: JSONValue] = ["temperature": 0.1, "keep": 0.5], shifted = settings.merging(["labelShift": true]) { $1 }
        let with = try learn(parts, shifted), without = try learn(parts, settings)
        let accuracyWith = try accuracy(try #require(with.last).state, ["labelShift": true], on: held)
        // Bayes' rule for balanced clouds at distance 3: Φ(1.5) = 0.9332; 4,000 rows have a standard error of 0.004, and 0.008 are the price of learning.
        #expect(accuracyWith > 0.9332 - 3 * 0.004 - 0.008)
        // Balanced clouds that lie alike need no bias: it is the log odds of the classes, log 50 after the first part, that labelShift leaves out.
        func bias(_ version: (state: Data, said: JSONValue, remarks: [Remark])) throws -> Double {
            let tensors = try Safetensors.decode(version.state).tensors
            let name = try #require(tensors.keys.first { $0.hasPrefix("mean.") && $0.hasSuffix(".bias") })
            return try #require(tensors[name]?.doubles()).reversed().reduce(0) { $1 - $0 }
        }
        for (version, plain) in zip(with, without) { #expect(try abs(bias(version)) < abs(bias(plain)) / 2) }
        // κ = ½ of the counts before stays with every part.
        func counts(_ versions: [(state: Data, said: JSONValue, remarks: [Remark])]) -> [[Double]] {
            versions.map { $0.said["labelCounts"]?.array?.compactMap(\.double) ?? [] }
        }
        #expect(counts(with) == [[200, 4], [104, 202], [252, 105], [130, 252.5]])
        #expect(counts(try learn(parts, shifted, shards: 3)) == counts(with))
        #expect(counts(without) == [[], [], [], []])
    }

    @Test("labelShift changes nothing of the weights where every part has equally many rows of each class")
    func balancedLabels() throws {
        let parts = try (0..<2).map { try rows(200, angle: 0, seed: 70 + UInt64($0)) }
        let with = try learn(parts, ["labelShift": true]), without = try learn(parts, [:])
        for (a, b) in zip(with, without) {
            let (a, b) = (try Safetensors.decode(a.state).tensors, try Safetensors.decode(b.state).tensors)
            #expect(a == b && !a.isEmpty)
        }
    }

    @Test("kept rows that are all rows of the past give the exact posterior, whatever their share", arguments: [0, 0.5, 1])
    func exactKeptRows(share: Double) throws {
        // y = w, noise precision 4, prior N(0, 1): four rows of 2, then four of 5. Λ = 1 + 8 · 4, mean 4 (4 · 2 + 4 · 5) / Λ.
        let schema = Schema([TensorSchema("inputs", role: .input, dtype: .f32, shape: [1]), TensorSchema("targets", role: .target, dtype: .f32, shape: [])])
        let rows = try Rows(
            ["inputs": TensorBytes([Float](repeating: 1, count: 8), shape: [8, 1]), "targets": TensorBytes([2, 2, 2, 2, 5, 5, 5, 5] as [Float], shape: [8])],
            schema: schema, while: "testing")
        let settings: JSONValue = [
            "model": ["kind": "linear", "bias": false], "likelihood": ["kind": "gaussian", "noisePrecision": 4], "family": "full", "epochs": 600, "batch": 4, "learningRate": 0.05,
            "finalRate": 0, "fisherRows": 8, "drawScale": 1, "reservoir": ["rows": 8, "share": .number(share)],
        ]
        let pipeline = PipelineDeclaration(name: "exact", method: "IncrementalBayes", seed: 3, schema: schema, settings: settings, round: .init(chunks: 1))
        var last = Data()
        _ = try LocalRun(pipeline: pipeline, method: try MethodCatalog.standard.make(pipeline), rows: rows, chunks: [0..<4, 4..<8]).run {
            (version) throws(AccrueError) in last = version.state
        }
        let tensors = try Safetensors.decode(last).tensors
        func value(_ prefix: String) throws -> Double { try #require(tensors.first { $0.key.hasPrefix(prefix) && $0.key.hasSuffix("weight") }?.value.doubles().first) }
        #expect(try abs(value("mean.") - 112.0 / 33) < 1e-3)
        #expect(try abs(value("precision.") - 33) < 1e-3)
    }

    @Test("the fitted scale of draws comes down when draws are too wide, within its bounds, and a fixed one stays")
    func scale() throws {
        // A weak prior and few rows: draws far wider than what rows bear.
        let parts = try (0..<8).map { try rows(60, angle: 0, seed: 60 + UInt64($0)) }
        let fitted = try learn(parts, ["temperature": 30, "drawScale": "fitted"]).compactMap { $0.said["drawScale"]?.double }
        #expect(fitted.first == 1 && (fitted.last ?? 1) < 0.7 && fitted.allSatisfy { (0.05...4).contains($0) })
        for (a, b) in zip(fitted, fitted.dropFirst()) { #expect(b / a >= 0.7 - 1e-9 && b / a <= 1.4 + 1e-9) }
        #expect(try learn(parts, ["drawScale": 0.5]).allSatisfy { $0.said["drawScale"]?.double == 0.5 })
    }

    @Test("settings that belong to laplace are refused elsewhere, and values out of range with their range")
    func refusals() throws {
        for (settings, word) in [
            (["inference": "variational", "reservoir": ["rows": 5]], "reservoir"), (["inference": "variational", "drawScale": "fitted"], "drawScale"),
            (["keepOnDrift": 2], "keepOnDrift"), (["reservoir": ["share": 1.5]], "share"), (["driftThreshold": 0], "driftThreshold"),
            (["reservoir": ["perRow": 0]], "perRow"), (["reservoir": ["row": 5]], "row"),
            (["inference": "variational", "labelShift": true], "labelShift"), (["likelihood": ["kind": "bernoulli"], "labelShift": true], "needs classes"),
        ] as [([String: JSONValue], String)] {
            #expect { try learn([], settings.merging(["model": ["kind": "linear"]]) { $1 }) } throws: { "\($0)".contains(word) }
        }
    }
}
