import AccrueBayes
import AccrueCore
import AccrueTensor
import Foundation
import Testing

@testable import AccrueMethods

/// Weights from outside: imported networks and posteriors, and classes that are appended.
@Suite struct OutsideTests {
    init() { EngineFingerprint.beginThread() }

    private static let scenarios = Scenario.networks.filter { !$0.title.contains("learned noise") || $0.title.contains("mlp") }
    private static let key = RandomKey(seed: 1)

    private static func decoded(_ state: Data) throws -> Safetensors { try Safetensors.decode(state) }

    @Test("a method's own export is taken over, bit for bit", arguments: scenarios)
    func own(scenario: Scenario) throws {
        let states = try scenario.run()
        let method = try scenario.make()
        let last = try #require(states.last), first = try #require(states.first)
        #expect(try method.adopt(last, into: first, key: Self.key) == last)
    }

    @Test("a bare network becomes the mean, with the first prior's precision; learning starts from it")
    func network() throws {
        let scenario = Scenario.networks[0], method = try scenario.make()
        let first = try method.initialState(key: Self.key)
        let learned = try Self.decoded(try #require(try scenario.run().last))
        let names = learned.tensors.keys.filter { $0.hasPrefix("mean.") }
        let network = Safetensors(tensors: Dictionary(uniqueKeysWithValues: try names.map { (String($0.dropFirst(5)), try #require(learned.tensors[$0])) }))
        let adopted = try Self.decoded(try method.adopt(network.encode(), into: first, key: Self.key)), start = try Self.decoded(first)
        for name in names { #expect(adopted.tensors[name] == learned.tensors[name]) }
        for name in start.tensors.keys where name.hasPrefix("precision.") { #expect(adopted.tensors[name] == start.tensors[name]) }
        let rows = try scenario.rows(1, 120)
        let run = LocalRun(pipeline: scenario.pipeline(), method: method, rows: rows, chunks: [0..<120], start: network.encode())
        var scores: [Double] = []
        let last = try run.run { (version) throws(AccrueError) in if let density = version.score?.figures["logPredictiveDensity"] { scores.append(density) } }
        #expect(last.number == 2)
        // The rows were scored by the network that was imported, not by random weights.
        let plain = try LocalRun(pipeline: scenario.pipeline(), method: method, rows: rows, chunks: [0..<120]).run { (_) throws(AccrueError) in }
        #expect(try #require(scores.first) > #require(plain.score?.figures["logPredictiveDensity"]) + 0.1)
    }

    @Test("what does not fit is refused with the tensor's name, its shape and the one needed")
    func refused() throws {
        let scenario = Scenario.networks[0], method = try scenario.make()
        let first = try method.initialState(key: Self.key)
        func problem(_ tensors: [String: TensorBytes], _ metadata: [String: String] = [:]) -> String {
            do {
                _ = try method.adopt(Safetensors(tensors: tensors, metadata: metadata).encode(), into: first, key: Self.key)
                return ""
            } catch { return error.code == .invalidInput ? error.problem : "another code" }
        }
        let weights = [
            "dense1.weight": TensorBytes([Float](repeating: 0, count: 32), shape: [16, 2]), "dense1.bias": TensorBytes([Float](repeating: 0, count: 16), shape: [16]),
            "dense2.weight": TensorBytes([Float](repeating: 0, count: 48), shape: [3, 16]), "dense2.bias": TensorBytes([Float](repeating: 0, count: 3), shape: [3]),
        ]
        #expect(problem(weights) == "")
        var wrong = weights
        wrong["dense2.weight"] = TensorBytes([Float](repeating: 0, count: 48), shape: [16, 3])
        #expect(problem(wrong) == "tensor 'dense2.weight' has shape [16, 3]; the model needs [3, 16]")
        wrong["dense2.weight"] = nil
        #expect(problem(wrong).hasPrefix("there is no tensor 'dense2.weight', which has shape [3, 16]"))
        wrong = weights
        wrong["dense1.bias"] = TensorBytes([Float](repeating: .nan, count: 16), shape: [16])
        #expect(problem(wrong) == "tensor 'dense1.bias' has numbers that are not finite")
        wrong = weights
        wrong["head.weight"] = weights["dense1.bias"]
        #expect(problem(wrong).hasPrefix("tensor 'head.weight' is none of the model's"))
        #expect(problem(weights, ["method": "WeightAveraging"]).hasPrefix("the file is a posterior of WeightAveraging"))
    }

    private static let growing = Scenario.networks.filter { scenario in
        scenario.title.contains("softmax") || ["WeightAveraging, mlp", "VariationalDropout, mlp, ard"].contains { scenario.title.hasPrefix($0) }
    }

    @Test("appended classes leave every old number as it was, and are learned", arguments: growing)
    func classes(scenario: Scenario) throws {
        var scenario = scenario
        if case .object(var settings) = scenario.settings {
            settings["epochs"] = 40
            scenario.settings = .object(settings)
        }
        var four = scenario
        four.schema = Scenario.classes(4, [2])
        let new = try four.make()
        let before = try #require(try scenario.run().last)
        let after = try new.adapt(before, from: scenario.schema, key: Self.key)
        let (small, large) = (try Self.decoded(before), try Self.decoded(after))
        for (name, tensor) in small.tensors {
            let grown = try #require(large.tensors[name])
            #expect(grown.data.prefix(tensor.data.count) == tensor.data, "\(name)")
        }
        let rows = try scenario.rows(9, 30)
        let answer = try new.load(after).answer(QueryBytes(verb: "predict", header: [:], tensors: ["inputs": try #require(rows.tensors["inputs"])]), key: Self.key)
        #expect(answer.header.canonical.contains("c3"))
        let more = try Scenario.labelled(3, 240, classes: 4, shape: [2], spread: 0.5)
        let log = [
            LogEntry(position: 1, kind: .chunk(.init(identity: more.rows(0..<120).identity, key: nil, rows: 120, bytes: 1))),
            LogEntry(position: 2, kind: .chunk(.init(identity: more.rows(120..<240).identity, key: nil, rows: 120, bytes: 1))),
        ]
        let started = [LogEntry(position: 1, kind: .settings(schema: four.schema))] + log.map { LogEntry(position: $0.position + 1, kind: $0.kind) }
        let run = LocalRun(
            pipeline: scenario.pipeline(), log: started, make: { (declaration) throws(AccrueError) in try MethodCatalog.standard.make(declaration) },
            rows: { (position) in more.rows(position == 2 ? 0..<120 : 120..<240) })
        let last = try run.run { (_) throws(AccrueError) in }
        #expect(last.number == 3 && last.schema == four.schema)
        #expect(try #require(last.score?.figures["accuracy"]) > 0.6)
    }

    @Test("columns of a low-rank precision grow by zeros, and a family that couples all classes refuses to grow")
    func families() throws {
        func settings(_ family: String) -> Scenario {
            var scenario = Scenario.networks[0]
            if case .object(var settings) = scenario.settings {
                settings["family"] = .string(family)
                if family == "lowRank" { settings["rank"] = 3 }
                scenario.settings = .object(settings)
            }
            return scenario
        }
        func grown(_ family: String) throws -> (before: Safetensors, after: Safetensors) {
            let scenario = settings(family)
            var four = scenario
            four.schema = Scenario.classes(4, [2])
            let before = try #require(try scenario.run().last), method = try four.make()
            let after = try method.adapt(before, from: scenario.schema, key: Self.key)
            _ = try method.load(after)
            return (try Self.decoded(before), try Self.decoded(after))
        }
        let (before, after) = try grown("lowRank")
        let old = try #require(before.tensors["coupling.dense2.weight"]), new = try #require(after.tensors["coupling.dense2.weight"])
        #expect(old.shape == [3, 3, 16] && new.shape == [3, 4, 16])
        let (olds, news) = (old.doubles(), new.doubles())
        for column in 0..<3 {
            #expect(Array(news[column * 64..<column * 64 + 48]) == Array(olds[column * 48..<column * 48 + 48]))
            #expect(news[column * 64 + 48..<column * 64 + 64].allSatisfy { $0 == 0 })
        }
        #expect(before.tensors["coupling.dense1.weight"] == after.tensors["coupling.dense1.weight"])
        for family in ["full", "lastLayer", "kronecker"] {
            let error = #expect(throws: AccrueError.self) { try grown(family) }
            #expect(error?.code == .invalidInput && error?.problem.contains("couples the weights of all classes") == true)
        }
    }
}
