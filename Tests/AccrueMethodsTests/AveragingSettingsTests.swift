import AccrueCore
import AccrueTensor
import Foundation
import Testing

@testable import AccrueMethods

/// What weight averaging refuses, and with which words.
@Suite struct AveragingSettingsTests {
    private static func problem(_ settings: [String: JSONValue]) -> String {
        let all = ["model": ["kind": "mlp", "hidden": [6]]].merging(settings) { $1 }
        do throws(AccrueError) {
            _ = try WeightAveraging.make(.object(all), Scenario.classes(3, [2]))
            return ""
        } catch { return error.code == .invalidInput ? error.problem : "another code" }
    }

    @Test("settings that do not go together are refused, naming setting, value and range")
    func refused() {
        let cases: [([String: JSONValue], String)] = [
            (["posterior": "swagg"], "'settings.posterior' is \"swagg\""),
            (["posterior": "swag", "rank": 1], "'settings.rank' is 1; it must be a whole number from 2 to 100"),
            (["posterior": "swagDiagonal", "rank": 5], "'settings.rank' belongs to posterior swag, not to swagDiagonal"),
            (["drawScale": 1], "'settings.drawScale' belongs to posterior swagDiagonal, swag, not to point"),
            (["posterior": "swag", "drawScale": -1], "'settings.drawScale' is -1; it must be a number from 0.0 to 100.0"),
            (["posterior": "fge", "window": 3], "'settings.window' belongs to posterior point, swagDiagonal, swag, not to fge"),
            (["posterior": "fge", "averagingRate": 0.1], "'settings.averagingRate' belongs to posterior point, swagDiagonal, swag, not to fge"),
            (["members": 3], "'settings.members' belongs to posterior fge, not to point"),
            (["cycle": ["epochs": 2]], "'settings.cycle' belongs to posterior fge, not to point"),
            (["posterior": "fge", "cycle": ["epochs": 3]], "'settings.cycle.epochs' is 3; the lowest rate is in a cycle's middle: it must be even"),
            (["posterior": "fge", "cycle": ["low": 0.1]], "'settings.cycle.low' is 0.1, above cycle.high, 0.05"),
            (["posterior": "fge", "epochs": 5, "cycle": ["epochs": 6]], "'settings.cycle.epochs' is 6, but 2.5 of the round's 5 epochs are left"),
            (
                ["posterior": "swag", "model": ["kind": "mlp", "batchNorm": true]],
                "'settings.model.batchNorm' is true; each draw would need batch statistics of its own"
            ),
        ]
        for (settings, words) in cases { #expect(Self.problem(settings).hasPrefix(words), "\(Self.problem(settings))") }
        for posterior in ["point", "swagDiagonal", "swag", "fge"] { #expect(Self.problem(["posterior": .string(posterior)]) == "") }
        #expect(Self.problem(["posterior": "fge", "model": ["kind": "mlp", "batchNorm": true]]) == "")
    }

    @Test("an export of another posterior is refused by name; a bare network is taken by all", arguments: ["point", "swagDiagonal", "swag", "fge"])
    func imports(posterior: String) throws {
        EngineFingerprint.beginThread()
        let key = RandomKey(seed: 1)
        func method(_ posterior: String) throws -> any OpaqueMethod {
            try WeightAveraging.make(["model": ["kind": "mlp", "hidden": [6]], "posterior": .string(posterior)], Scenario.classes(3, [2]))
        }
        let own = try method(posterior), state = try own.initialState(key: key)
        for other in ["point", "swagDiagonal", "swag", "fge"] where other != posterior {
            let export = try method(other).initialState(key: key)
            let error = #expect(throws: AccrueError.self) { try own.adopt(export, into: state, key: key) }
            #expect(error?.code == .invalidInput)
            #expect(error?.problem == "the file is a posterior of WeightAveraging with posterior \(other); WeightAveraging with posterior \(posterior) is needed")
        }
        let schema = Scenario.classes(3, [2])
        let model = try AveragingModel(settings: try .init(["model": ["kind": "mlp", "hidden": [6]]], schema: schema), schema: schema)
        let weights = try model.initialWeights(key: RandomKey(seed: 8))
        let network = Safetensors(tensors: try weights.stored()).encode()
        let adopted = try own.adopt(network, into: state, key: key)
        let rows = try Scenario.blobs(2, 5)
        let answer = try own.load(adopted).answer(QueryBytes(verb: "predict", header: ["draws": 4], tensors: rows.tensors), key: key)
        let point = try method("point")
        let alone = try point.load(try point.adopt(network, into: try point.initialState(key: key), key: key))
            .answer(QueryBytes(verb: "predict", header: [:], tensors: rows.tensors), key: key)
        let (one, other) = (try #require(answer.tensors["probabilities"]).doubles(), try #require(alone.tensors["probabilities"]).doubles())
        for (a, b) in zip(one, other) { #expect(abs(a - b) < 1e-6) }
    }

    @Test("damaged states are corrupt, not a crash")
    func corrupt() throws {
        EngineFingerprint.beginThread()
        for (posterior, breakage) in [
            ("fge", { $0.metadata["members"] = "-1" }), ("fge", { $0.metadata["members"] = "0" }), ("fge", { $0.metadata["members"] = "1000000000000" }),
            ("swag", { $0.tensors["count"] = TensorBytes([-1.0], shape: []) }), ("swag", { $0.tensors["shares"] = TensorBytes([1.0, 1], shape: [2]) }),
            ("swag", { $0.tensors["mean.dense1.bias"] = nil }), ("swagDiagonal", { $0.metadata["posterior"] = "round" }),
        ] as [(String, (inout Safetensors) -> Void)] {
            let method = try WeightAveraging.make(["model": ["kind": "mlp", "hidden": [6]], "posterior": .string(posterior)], Scenario.classes(3, [2]))
            var state = try Safetensors.decode(try method.initialState(key: RandomKey(seed: 1)))
            breakage(&state)
            let broken = state.encode()
            let error = #expect(throws: AccrueError.self) { try method.load(broken) }
            #expect(error?.code == .corrupt)
        }
    }
}
