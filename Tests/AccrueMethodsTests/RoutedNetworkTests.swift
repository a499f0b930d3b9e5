import AccrueCore
import AccrueTensor
import Foundation
import Testing

@testable import AccrueBayes
@testable import AccrueMethods

/// The network of dynamic routing against a ResNet written out by hand, closed forms and finite differences.
@Suite struct RoutedNetworkTests {
    init() { EngineFingerprint.beginThread() }

    private static let key = RandomKey(seed: 21)

    private static func network(
        channels: [Int] = [4, 6], units: [Int] = [3, 2], steps: [Int] = [3, 2], more: [String: JSONValue] = [:], input: [Int] = [3, 8, 8], classes: Int = 5, fixed: Bool = false
    ) throws -> RoutedNetwork {
        let model: [String: JSONValue] = [
            "channels": .array(channels.map { .integer($0) }), "units": .array(units.map { .integer($0) }), "steps": .array(steps.map { .integer($0) }),
        ]
        let reader = try SettingsReader(["model": .object(model.merging(more) { $1 })], known: ["model"], while: "testing")
        return try RoutedNetwork(try DynamicRouting.Model(reader), inputShape: input, classes: classes, isFixed: fixed)
    }

    /// Random weights in Float64, norms and biases not at their start.
    private static func weights(_ network: RoutedNetwork, dtype: DType = .f64) throws -> NamedTensors {
        var weights = try network.initialWeights(key: key)
        try weights.visit { (name, tensor) throws(AccrueError) in
            let noise = try Self.key.folding("more").folding(name).normal(tensor.shape)
            if !name.hasSuffix(".weight") { tensor = try tensor + (try noise * 0.3) }
            if name.hasSuffix("choice.weight") { tensor = try tensor * 8 }
            tensor = try tensor.cast(to: dtype)
        }
        return weights
    }

    private static func inputs(_ network: RoutedNetwork, rows: Int = 6, dtype: DType = .f64) throws -> Tensor {
        try key.folding("inputs").normal([rows] + network.inputShape, dtype: dtype)
    }

    private static func trained(_ network: RoutedNetwork, _ x: Tensor, _ weights: NamedTensors, _ rule: RouteRule, temperature: Double = 1) throws(AccrueError) -> (logits: Tensor, shares: [[Tensor]]) {
        var norms = ResidualNorms(weights)
        return try network.trained(x, weights, rule: rule, temperature: temperature, norms: &norms)
    }

    /// Random statistics for all norms.
    private static func statistics(_ network: RoutedNetwork, dtype: DType = .f32) throws -> NamedTensors {
        var list: [(String, Tensor)] = []
        for norm in network.norms {
            list.append(("\(norm.name).mean", try (key.folding(norm.name).normal([norm.features]) * 0.3).cast(to: dtype)))
            list.append(("\(norm.name).variance", try (key.folding(norm.name).folding(1).uniform([norm.features]) + 0.5).cast(to: dtype)))
        }
        return NamedTensors(list)
    }

    /// The ResNet that applies these units one after the other, by plain operations.
    private static func resNet(_ network: RoutedNetwork, _ x: Tensor, _ w: NamedTensors, blocks: [[Int]]) throws(AccrueError) -> Tensor {
        func part(_ name: String, _ range: Range<Int>?) throws(AccrueError) -> Tensor {
            guard let range else { return try w.tensor(name) }
            return try w.tensor(name).rows(range)
        }
        func norm(_ x: Tensor, _ name: String, _ range: Range<Int>? = nil) throws(AccrueError) -> Tensor {
            try x.batchNormalised(scale: try part("\(name).scale", range), shift: try part("\(name).shift", range))
        }
        func block(_ x: Tensor, _ name: String, stride: Int = 1, _ range: Range<Int>? = nil) throws(AccrueError) -> Tensor {
            let first = try norm(try x.convolved(try part("\(name).conv1.weight", range), nil, stride: stride, padding: 1), "\(name).norm1", range).relu()
            return try norm(try first.convolved(try part("\(name).conv2.weight", range), nil, padding: 1), "\(name).norm2", range)
        }
        var x = try norm(try x.convolved(try w.tensor("stem.conv.weight"), nil, padding: 1), "stem.norm").relu()
        for (index, stage) in network.stages.enumerated() {
            if let down = stage.downsampling {
                // Every second position of an even side: the first of each pair.
                let s = x.shape, kept = try x.reshaped([s[0], s[1], s[2] / 2, 2, s[3] / 2, 2]).narrowed(3, 0..<1).narrowed(5, 0..<1).reshaped([s[0], s[1], s[2] / 2, s[3] / 2])
                let zeros = try Tensor.zeros([s[0], down.outputs - down.inputs, s[2] / 2, s[3] / 2], dtype: x.dtype)
                x = try (try Tensor.concatenated([kept, zeros], dim: 1) + (try block(x, down.name, stride: 2))).relu()
            }
            for unit in blocks[index] {
                x = try (x + (try block(x, stage.units.name, unit * stage.channels..<(unit + 1) * stage.channels))).relu()
            }
        }
        return try x.mean(2, 3).linear(try w.tensor("head.weight"), try w.tensor("head.bias"))
    }

    private static func expectClose(_ a: Tensor, _ b: Tensor, _ tolerance: Double = 1e-10, _ what: String = "") throws {
        #expect(a.shape == b.shape, "\(what)")
        let worst = try (a - b).absolute().largest().item()
        #expect(worst <= tolerance * max(1, try b.absolute().largest().item()), "\(what): \(worst)")
    }

    @Test("one unit a stage with soft routes is the ResNet that applies it at each step, whatever the controller says")
    func oneUnit() throws {
        let network = try Self.network(units: [1, 1], steps: [3, 2]), weights = try Self.weights(network), x = try Self.inputs(network)
        let (logits, shares) = try Self.trained(network, x, weights, .soft)
        for share in shares.joined() { #expect(try share.doubles().allSatisfy { $0 == 1 }) }
        try Self.expectClose(logits, try Self.resNet(network, x, weights, blocks: [[0, 0, 0], [0, 0]]))
    }

    @Test("fixed routes are the plain ResNet of the same blocks, outputs and gradients")
    func fixed() throws {
        let network = try Self.network(fixed: true), weights = try Self.weights(network), x = try Self.inputs(network)
        let slope = try Self.key.folding("slope").normal([6, 5], dtype: .f64)
        func both(_ body: (NamedTensors) throws(AccrueError) -> Tensor) throws -> (Tensor, NamedTensors) {
            let (_, gradient) = try valueAndGradient(at: weights) { (w) throws(AccrueError) in try (try body(w) * slope).sum() }
            return (try body(weights), gradient)
        }
        let (found, gradient) = try both { (w) throws(AccrueError) in try Self.trained(network, x, w, .fixed).logits }
        let (expected, other) = try both { (w) throws(AccrueError) in try Self.resNet(network, x, w, blocks: [[0, 1, 2], [0, 1]]) }
        try Self.expectClose(found, expected)
        for (name, tensor) in gradient.tensors { try Self.expectClose(tensor, try other.tensor(name), 1e-8, name) }
    }

    @Test("beside the order of a ResNet the controller learns that order, and the features do not feel it")
    func ordered() throws {
        let network = try Self.network(steps: [3, 3], more: ["skip": true]), weights = try Self.weights(network), x = try Self.inputs(network)
        let (logits, shares) = try Self.trained(network, x, weights, .ordered)
        // Unit t modulo their number.
        try Self.expectClose(logits, try Self.resNet(network, x, weights, blocks: [[0, 1, 2], [0, 1, 0]]))
        #expect(shares.map { $0.map(\.shape) } == [[[6, 4], [6, 4], [6, 4]], [[6, 3], [6, 3], [6, 3]]])
        func taught(_ doubt: Double) throws -> NamedTensors {
            try valueAndGradient(at: weights) { (w) throws(AccrueError) in
                var norms = ResidualNorms(w)
                let shares = try network.trained(x, w, rule: .ordered, temperature: 1, norms: &norms).shares
                return try RoutePenalties.order(shares, units: [3, 2], doubt: doubt)
            }.gradient
        }
        for (name, tensor) in try taught(0.3).tensors {
            let largest = try tensor.absolute().largest().item(), isController = name.hasPrefix("controller") || name.contains("embedding") || name.contains("choice")
            #expect(isController ? largest > 1e-6 : largest == 0, "\(name): \(largest)")
        }
        // A stage of one step: shares of 1 − doubt + doubt/M at its unit and doubt/M elsewhere are what costs least, their own entropy.
        let doubt = 0.3, wanted = [1 - doubt + doubt / 4, doubt / 4, doubt / 4, doubt / 4]
        func cost(_ shares: [Double]) throws -> Double { try RoutePenalties.order([[try Tensor(shares, shape: [1, 4])]], units: [3], doubt: doubt).item() }
        #expect(try abs(cost(wanted) - RouteInformation.entropy(wanted)) < 1e-12)
        #expect(try abs(cost([0.25, 0.25, 0.25, 0.25]) - log(4)) < 1e-12)
        for other in [[0.7, 0.1, 0.1, 0.1], [0.85, 0.05, 0.05, 0.05]] { #expect(try cost(other) > cost(wanted)) }
    }

    @Test("a set with shares of one unit alone is that unit, outputs and gradients, with all others computed beside it")
    func oneHot() throws {
        let units = ResidualUnits("set", count: 3, channels: 4), x = try Self.key.normal([5, 4, 6, 6], dtype: .f64)
        let weights = try NamedTensors(units.initialWeights(lastScale: 0.7, key: Self.key)).map { (w) throws(AccrueError) in try w.cast(to: .f64) }
        let slope = try Self.key.folding("slope").normal([5, 4, 6, 6], dtype: .f64)
        for unit in 0..<3 {
            let shares = try Tensor([Int](repeating: unit, count: 5)).oneHot(3).cast(to: .f64)
            func both(_ body: (NamedTensors, inout ResidualNorms) throws(AccrueError) -> Tensor) throws -> (Tensor, NamedTensors) {
                func run(_ w: NamedTensors) throws(AccrueError) -> Tensor {
                    var norms = ResidualNorms(w)
                    return try body(w, &norms)
                }
                return (try run(weights), try valueAndGradient(at: weights) { (w) throws(AccrueError) in try (try run(w) * slope).sum() }.gradient)
            }
            let (mixed, gradient) = try both { (w, norms) throws(AccrueError) in try units.mixed(x, shares: shares, step: 0, w, &norms) }
            let (alone, other) = try both { (w, norms) throws(AccrueError) in try units.applied(unit, to: x, step: 0, w, &norms) }
            try Self.expectClose(mixed, alone)
            for (name, tensor) in gradient.tensors { try Self.expectClose(tensor, try other.tensor(name), 1e-9, name) }
        }
    }

    @Test("where every step skips, a stage is the identity and costs nothing")
    func skips() throws {
        let network = try Self.network(channels: [4], units: [3], steps: [3], more: ["skip": true])
        var weights = try Self.weights(network)
        try weights.visit { (name, tensor) throws(AccrueError) in
            if name == "stage1.choice.bias" { tensor = try Tensor([0.0, 0, 0, 1_000], shape: [4]) }
        }
        let x = try Self.inputs(network), (logits, shares) = try Self.trained(network, x, weights, .hard)
        try Self.expectClose(logits, try Self.resNet(network, x, weights, blocks: [[]]))
        #expect(try RoutePenalties.cost(shares).item() == 0)
        #expect(network.multiplyAdds(skipped: [3]) == Double(network.fixedMultiplyAdds))
    }

    @Test("Gumbel shares become one-hot as the temperature falls, and alike as it rises; draws have the softmax's frequencies")
    func gumbel() throws {
        let logits = try Tensor([0.5, -1, 1.2, 0], shape: [1, 4]), count = 100_000
        let many = try logits.expanded([count, 4]), key = Self.key
        let cold = try RouteRule.gumbel(key).shares(try logits.expanded([1_000, 4]), temperature: 1e-4, place: 0).largest(1).doubles()
        #expect(cold.count { $0 > 0.999 } > 990)
        #expect(try RouteRule.gumbel(key).shares(try logits.expanded([100, 4]), temperature: 1e6, place: 0).doubles().allSatisfy { abs($0 - 0.25) < 1e-4 })
        let frequencies = try RouteRule.drawn(key).shares(many, temperature: 1, place: 0).mean(0).doubles(), expected = try logits.softmax(1).doubles()
        for (found, p) in zip(frequencies, expected) { #expect(abs(found - p) < 3 * (p * (1 - p) / Double(count)).squareRoot()) }
        // Steps have numbers of their own.
        #expect(try RouteRule.drawn(key).shares(many, temperature: 1, place: 1).doubles() != RouteRule.drawn(key).shares(many, temperature: 1, place: 0).doubles())
    }

    @Test("the gradient of shares is r (a − Σ r a) / T, for straight-through ones with the softmax's r")
    func closedGradient() throws {
        let logits = NamedTensors([("l", try Self.key.folding("l").normal([4, 3], dtype: .f64))]), a = try Self.key.folding("a").normal([4, 3], dtype: .f64), temperature = 0.7
        for (rule, soft) in [(RouteRule.soft, RouteRule.soft), (.gumbel(Self.key), .gumbel(Self.key)), (.straightThrough(Self.key), .gumbel(Self.key)), (.straightThrough(nil), .soft)] {
            let r = try soft.shares(try logits.tensor("l"), temperature: temperature, place: 2)
            let expected = try (r * (try a - (try (r * a).sum(1, keepDims: true)))) / temperature
            let gradient = try valueAndGradient(at: logits) { (w) throws(AccrueError) in
                try (try rule.shares(try w.tensor("l"), temperature: temperature, place: 2) * a).sum()
            }.gradient
            try Self.expectClose(try gradient.tensor("l"), expected, 1e-12)
        }
    }

    @Test("gradients through all steps, with frozen noise, agree with finite differences in Float64", arguments: ["soft", "gumbel", "topK", "gru"])
    func finiteDifferences(_ kind: String) throws {
        let network = try Self.network(units: [3, 2], steps: [2, 2], more: kind == "gru" ? ["controller": "gru", "shared": false, "affine": "step"] : ["skip": .bool(kind == "gumbel")])
        let weights = try Self.weights(network), x = try Self.inputs(network, rows: 3), penalties = RoutePenalties(balance: 0.3, balanced: .step, entropy: 0.2, cost: 0.1)
        let rule: RouteRule = kind == "gumbel" ? .gumbel(Self.key.folding("noise")) : kind == "topK" ? .topK(2) : .soft
        func loss(_ w: NamedTensors) throws(AccrueError) -> Tensor {
            let (logits, shares) = try Self.trained(network, x, w, rule, temperature: 1.3)
            let entropy = try logits.crossEntropy(try Tensor([1, 4, 0]))
            return try penalties(shares, skip: network.skip).map { (penalty) throws(AccrueError) in try entropy + penalty } ?? entropy
        }
        let gradient = try valueAndGradient(at: weights) { (w) throws(AccrueError) in try loss(w) }.gradient
        for (name, tensor) in gradient.tensors {
            let along = try Self.key.folding("along").folding(name).normal(tensor.shape, dtype: .f64)
            func moved(_ step: Double) throws -> Double {
                try loss(NamedTensors(try weights.tensors.map { ($0.name, $0.name == name ? try $0.tensor + (along * step) : $0.tensor) })).item()
            }
            let slope = try (moved(1e-6) - moved(-1e-6)) / 2e-6, predicted = try (tensor * along).sum().item()
            #expect(abs(slope - predicted) <= 2e-5 * max(1, abs(slope)), "\(name): \(slope) against \(predicted)")
        }
    }

    @Test("straight-through routes without noise go the hard path, bit for bit")
    func straightThrough() throws {
        let network = try Self.network(), weights = try Self.weights(network), x = try Self.inputs(network)
        let (straight, shares) = try Self.trained(network, x, weights, .straightThrough(nil)), (hard, ones) = try Self.trained(network, x, weights, .hard)
        #expect(try straight.bytes() == hard.bytes())
        for (a, b) in zip(shares.joined(), ones.joined()) { #expect(try a.bytes() == b.bytes()) }
    }

    @Test("of top-k routes as many shares are above zero, and add to one")
    func topK() throws {
        let logits = try Self.key.normal([50, 6])
        let shares = try RouteRule.topK(2).shares(logits, temperature: 0.5, place: 0).doubles()
        for row in 0..<50 {
            let here = shares[row * 6..<row * 6 + 6]
            #expect(here.count { $0 > 0 } == 2 && abs(here.reduce(0, +) - 1) < 1e-6)
        }
    }

    @Test("balance is 0 for even use and M − 1 for collapse; entropy lies in 0 … log M; what soft routes say of inputs is at least 0")
    func penalties() throws {
        let even = try Tensor.full([6, 4], 0.25, dtype: .f64), collapsed = try Tensor([Int](repeating: 2, count: 6)).oneHot(4).cast(to: .f64)
        #expect(try abs(RoutePenalties.balance([even, even]).item()) < 1e-12 && abs(RoutePenalties.balance([collapsed]).item() - 3) < 1e-12)
        // Even over steps together, though each step uses one unit.
        let turns = try (0..<4).map { try Tensor([Int](repeating: $0, count: 6)).oneHot(4).cast(to: .f64) }
        #expect(try abs(RoutePenalties.balance(turns).item()) < 1e-12)
        func balanced(_ by: RoutePenalties.Balance) throws -> Double {
            try #require(try RoutePenalties(balance: 0.5, balanced: by, entropy: 0, cost: 0)([turns, [collapsed]], skip: false)).item()
        }
        // Step by step each of them is collapsed.
        #expect(try abs(balanced(.stage) - 0.5 * 3) < 1e-12)
        #expect(try abs(balanced(.step) - 0.5 * 6) < 1e-12)
        #expect(try abs(RoutePenalties.entropy([[even]]).item() - log(4)) < 1e-12 && RoutePenalties.entropy([[collapsed, collapsed]]).item() == 0)
        let shares = try (try Self.key.normal([200, 4], dtype: .f64) * 2).softmax(1), rows = try shares.doubles()
        let entropy = try RoutePenalties.entropy([[shares]]).item()
        #expect(entropy > 0 && entropy < log(4))
        let table = (0..<200).map { Array(rows[4 * $0..<4 * $0 + 4]) }
        let direct = RouteInformation.entropy((0..<4).map { c in table.reduce(0) { $0 + $1[c] } / 200 }) - entropy
        #expect(RouteInformation.ofInputs(table) > 0 && abs(RouteInformation.ofInputs(table) - direct) < 1e-12)
        #expect(RouteInformation.ofInputs([[Double]](repeating: [0.1, 0.9], count: 7)) < 1e-12)
    }

    @Test("mutual information of choices and classes is that of the formula; independent labels stay below the quantile of permutations, dependent ones are far above")
    func information() throws {
        // p = [[3, 1], [1, 3]] / 8: log 2 − H(¼).
        #expect(abs(RouteInformation.mutual([[3, 1], [1, 3]]) - (log(2) + 0.25 * log(0.25) + 0.75 * log(0.75))) < 1e-12)
        #expect(RouteInformation.mutual([[2, 4], [3, 6]]) < 1e-12)
        let labels = (0..<600).map { $0 % 3 }, unrelated = try Self.key.folding("unrelated").uniform([600]).floats().map { Int($0 * 3) }, related = labels.map { $0 == 0 ? 0 : 1 }
        func found(_ chosen: [[Int]]) -> RouteInformation.OfClasses {
            RouteInformation.ofClasses(chosen, choices: chosen.map { _ in 3 }, labels: labels, classes: 3, permutations: 200, key: Self.key)
        }
        let nothing = found([unrelated]), much = found([unrelated, related])
        #expect(nothing.largest < nothing.quantile && much.largest > 10 * much.quantile && abs(much.steps[1] - (log(3) - log(2) * 2 / 3)) < 1e-9)
        // The bias of the estimate is about (M − 1)(classes − 1) / 2N.
        #expect(nothing.quantile > 4.0 / 1_200)
    }

    @Test("units in another order, with the controller's rows for them, say the same")
    func exchangeable() throws {
        let network = try Self.network(), weights = try Self.weights(network), x = try Self.inputs(network)
        var changed = weights
        let orders = [[2, 0, 1], [1, 0]]
        try changed.visit { (name, tensor) throws(AccrueError) in
            for (stage, order) in zip(network.stages, orders) where name.hasPrefix("\(stage.name).units.") || name.hasPrefix("\(stage.name).choice.") {
                let size = tensor.rowCount / order.count
                tensor = try tensor.rows(try Tensor(order.flatMap { unit in (0..<size).map { unit * size + $0 } }))
            }
        }
        for rule in [RouteRule.soft, .hard] { try Self.expectClose(try Self.trained(network, x, changed, rule).logits, try Self.trained(network, x, weights, rule).logits, 1e-9) }
    }

    @Test("grouped hard evaluation is that of each row by itself, and of all units computed; a permuted batch has permuted routes", arguments: [false, true])
    func grouped(_ skip: Bool) throws {
        let network = try Self.network(more: ["skip": .bool(skip)]), statistics = try Self.statistics(network)
        var weights = try Self.weights(network, dtype: .f32)
        // So that pictures, and not biases, decide.
        try weights.visit { (name, tensor) throws(AccrueError) in
            if name.hasSuffix("choice.bias") { tensor = try tensor.zerosLike() }
        }
        // Pictures whose channels differ on the whole: that is what the controller sees.
        let x = try Self.inputs(network, rows: 11, dtype: .f32) + (try Self.key.folding("tint").normal([11, 3, 1, 1]) * 3), pass = try RoutedPass(network, weights, statistics)
        let (together, routes) = try pass(x, .grouped(.hard), temperature: 1, reading: true)
        try Self.expectClose(together, try pass(x, .mixed(.hard), temperature: 1).logits, 1e-5)
        let chosen = try #require(routes).chosen
        #expect(Set(chosen.joined().joined()).count > 1, "all rows go one way")
        for row in 0..<11 {
            // One row: all groups but one are empty.
            let (alone, route) = try pass(try x.rows(row..<row + 1), .grouped(.hard), temperature: 1, reading: true)
            try Self.expectClose(alone, try together.rows(row..<row + 1), 1e-5, "row \(row)")
            #expect(route?.chosen == chosen.map { $0.map { [$0[row]] } })
        }
        let order = [4, 0, 10, 3, 2, 1, 9, 8, 7, 6, 5]
        let (permuted, others) = try pass(try x.rows(try Tensor(order)), .grouped(.hard), temperature: 1, reading: true)
        try Self.expectClose(permuted, try together.rows(try Tensor(order)), 1e-5)
        #expect(others?.chosen == chosen.map { $0.map { step in order.map { step[$0] } } })
        // Probabilities are the softmax of the logits that choose.
        for (ids, rows) in zip(chosen.joined(), try #require(routes).probabilities.joined()) {
            for (id, p) in zip(ids, rows) { #expect(p[id] == p.max() && abs(p.reduce(0, +) - 1) < 1e-6) }
        }
    }

    @Test("predictions with statistics folded in are those of the norms, one after the other", arguments: ["unit", "step"])
    func folded(_ affine: String) throws {
        let network = try Self.network(channels: [4], units: [2], steps: [2], more: ["affine": .string(affine)]), weights = try Self.weights(network, dtype: .f32), statistics = try Self.statistics(network)
        let x = try Self.inputs(network, dtype: .f32)
        func norm(_ x: Tensor, _ affine: String, _ name: String) throws -> Tensor {
            try x.batchNormalised(
                scale: try weights.tensor("\(affine).scale"), shift: try weights.tensor("\(affine).shift"),
                statistics: (try statistics.tensor("\(name).mean"), try statistics.tensor("\(name).variance")))
        }
        var y = try norm(try x.convolved(try weights.tensor("stem.conv.weight"), nil, padding: 1), "stem.norm", "stem.norm").relu()
        var memory = try network.controller.memory(rows: 6, dtype: .f32)
        for step in 0..<2 {
            let own = affine == "step" ? ".step\(step + 1)" : ""
            let shares = try RouteRule.soft.shares(try network.controller(y, &memory, stage: network.stages[0], weights), temperature: 0.8, place: step)
            let first = try norm(try y.convolved(try weights.tensor("stage1.units.conv1.weight"), nil, padding: 1), "stage1.units.norm1" + own, "stage1.units.norm1.step\(step + 1)").relu()
            let second = try norm(try first.convolved(try weights.tensor("stage1.units.conv2.weight"), nil, padding: 1, groups: 2), "stage1.units.norm2" + own, "stage1.units.norm2.step\(step + 1)")
            let mix = try (second.reshaped([6, 2, 4, 8, 8]) * (try shares.reshaped([6, 2, 1, 1, 1]))).sum(1)
            y = try (y + mix).relu()
        }
        try Self.expectClose(try RoutedPass(network, weights, statistics)(x, .mixed(.soft), temperature: 0.8).logits, try network.head(y, weights), 1e-5)
    }

    @Test("statistics of parts, pooled, are those of all rows, and means of shares pooled give the balance of all rows")
    func pooled() throws {
        let network = try Self.network(), weights = try Self.weights(network, dtype: .f32), x = try Self.inputs(network, rows: 12, dtype: .f32)
        var parts: [BatchFlow] = []
        for part in [0..<4, 4..<12] {
            var norms = ResidualNorms(weights, recording: true), flow = BatchFlow()
            _ = try network.trained(try x.rows(part), weights, rule: .soft, temperature: 1, norms: &norms)
            flow.add(norms.flows)
            // Through their stored form, as they travel.
            parts.append(try BatchFlow(bytes: flow.bytes))
        }
        let found = try BatchFlow.pooled(parts, norms: network.norms)
        #expect(found.names.count == 2 * network.norms.count)
        // What flows into the stem's norm depends on no statistics: the formula is that of the rows themselves.
        let into = try x.convolved(try weights.tensor("stem.conv.weight"), nil, padding: 1).cast(to: .f64), mean = try into.mean(0, 2, 3, keepDims: true)
        try Self.expectClose(try found.tensor("stem.norm.mean").cast(to: .f64), try mean.reshaped([-1]), 1e-6)
        try Self.expectClose(try found.tensor("stem.norm.variance").cast(to: .f64), try (into - mean).squared().mean(0, 2, 3), 1e-6)
        let shares = try Self.key.normal([12, 3], dtype: .f64).softmax(1)
        let usage = try ((try shares.rows(0..<4).mean(0) * 4) + (try shares.rows(4..<12).mean(0) * 8)) / 12
        #expect(abs(try RoutePenalties.balance([shares]).item() - (3 * (try usage.squared().sum().item()) - 1)) < 1e-12)
    }

    @Test("with norms' statistics held still and mean shares pooled, gradients of workers' halves average to those of all rows")
    func workers() throws {
        let network = try Self.network(), weights = try Self.weights(network, dtype: .f32), statistics = try Self.statistics(network)
        let x = try Self.inputs(network, rows: 8, dtype: .f32), labels = try Tensor([0, 3, 1, 4, 2, 2, 0, 1]), halves = [0..<4, 4..<8]
        func loss(_ range: Range<Int>) throws -> NamedTensors {
            try valueAndGradient(at: weights) { (w) throws(AccrueError) in
                try RoutedPass(network, w, statistics)(try x.rows(range), .mixed(.soft), temperature: 0.8).logits.crossEntropy(try labels.rows(range))
            }.gradient
        }
        let whole = try loss(0..<8), mean = try halves.map(loss).weightedSum([0.5, 0.5])
        #expect(whole.tensors.contains { $0.name.hasPrefix("controller") })
        for (name, tensor) in whole.tensors { try Self.expectClose(try mean.tensor(name), tensor, 1e-5, "\(name)") }
        // Balance 3 Σ p̄² − 1 is of all rows' mean share p̄; with p̄ pooled first a worker's part of its slope is that of 6 Σ p̄ share.
        let choice = NamedTensors([("choice", try Self.key.normal([3, 5], dtype: .f64))]), seen = try Self.key.folding("seen").normal([8, 5], dtype: .f64)
        func shares(_ w: NamedTensors, _ range: Range<Int>) throws(AccrueError) -> Tensor { try seen.rows(range).linear(try w.tensor("choice"), nil).softmax(1) }
        let pooled = try shares(choice, 0..<8).mean(0)
        let direct = try valueAndGradient(at: choice) { (w) throws(AccrueError) in try RoutePenalties.balance([try shares(w, 0..<8)]) }.gradient
        let parts = try halves.map { half in
            try valueAndGradient(at: choice) { (w) throws(AccrueError) in try ((try shares(w, half).mean(0)) * pooled).sum() * 6 }.gradient
        }
        try Self.expectClose(try parts.weightedSum([0.5, 0.5]).tensor("choice"), try direct.tensor("choice"), 1e-12)
    }

    @Test("an appended unit changes nothing but that the others' soft shares shrink by 1 − r; hard routes stay where the largest logit is above −4", arguments: ["unit", "step"])
    func newUnit(_ affine: JSONValue) throws {
        let old = try Self.network(channels: [4], units: [2], steps: [1], more: ["affine": affine])
        let new = try Self.network(channels: [4], units: [3], steps: [1], more: ["affine": affine])
        func state(_ network: RoutedNetwork, _ weights: NamedTensors) throws -> DynamicRouting.State {
            let statistics = try Self.statistics(network)
            return DynamicRouting.State(weights: weights, hard: statistics, soft: statistics, usage: RouteUsage(network), steps: 3)
        }
        let weights = try Self.weights(old, dtype: .f32)
        let before = try state(old, weights), fresh = try state(new, try new.initialWeights(key: Self.key.folding("new")))
        let after = try NewUnits(new).appended(to: before, fresh: fresh)
        let wide = try after.weights.map { (w) throws(AccrueError) in try w.cast(to: .f64) }, narrow = try weights.map { (w) throws(AccrueError) in try w.cast(to: .f64) }
        let x = try Self.inputs(old)
        let (logits, shares) = try Self.trained(new, x, wide, .soft), (_, original) = try Self.trained(old, x, narrow, .soft)
        let r = shares[0][0], scaled = try original[0][0] * (try (try r.narrowed(1, 2..<3).negated()) + 1)
        try Self.expectClose(try r.narrowed(1, 0..<2), scaled, 1e-12)
        var norms = ResidualNorms(narrow)
        let stem = try norms.relu(try x.convolved(try narrow.tensor("stem.conv.weight"), nil, padding: 1), "stem.norm", statistics: "stem.norm")
        let mixed = try old.stages[0].units.mixed(stem, shares: scaled, step: 0, narrow, &norms)
        try Self.expectClose(logits, try old.head(mixed, narrow), 1e-9)
        let x32 = try x.cast(to: .f32)
        let (served, routes) = try RoutedPass(new, after.weights, after.hard)(x32, .grouped(.hard), temperature: 1, reading: true)
        let (expected, first) = try RoutedPass(old, before.weights, before.hard)(x32, .grouped(.hard), temperature: 1, reading: true)
        #expect(routes?.chosen == first?.chosen)
        try Self.expectClose(served, expected, 1e-6)
    }

    /// Four clusters of pictures, and labels that need unit `wanted[cluster]` of four; a controller is trained to find it with everything else held still.
    /// - Returns: chosen units and clusters of rows it has not seen, the accuracy, and that of each unit for all rows.
    private static func toy(wanted: [Int]) throws -> (chosen: [Int], clusters: [Int], accuracy: Double, fixed: [Double]) {
        let network = try network(channels: [12], units: [4], steps: [1], input: [8, 1, 1], classes: 4), stage = network.stages[0]
        var weights = try network.initialWeights(key: key.folding("toy"))
        // The stem shows which cluster it is, and both signs of what the units are to map.
        var stem = [Float](repeating: 0, count: 12 * 8 * 9)
        for channel in 0..<12 { stem[(channel * 8 + (channel < 8 ? channel : channel - 4)) * 9 + 4] = channel < 8 ? 1 : -1 }
        try weights.visit { (name, tensor) throws(AccrueError) in
            if name == "stem.conv.weight" { tensor = try Tensor(stem, shape: [12, 8, 3, 3]) }
            if name == "head.weight" { tensor = try tensor * 4 }
            if name.hasSuffix("norm2.scale") { tensor = try tensor * 2 }
        }
        func rows(_ name: String, _ count: Int) throws -> (x: Tensor, clusters: [Int], labels: Tensor) {
            let clusters = try key.folding(name).uniform([count]).floats().map { Int($0 * 4) }
            let x = try Tensor.concatenated([try Tensor(clusters).oneHot(4).cast(to: .f32), try key.folding(name).folding(1).normal([count, 4])], dim: 1).reshaped([count, 8, 1, 1])
            return (x, clusters, try logits(x, try Tensor(clusters.map { wanted[$0] })).argmax(1))
        }
        func logits(_ x: Tensor, _ units: Tensor) throws(AccrueError) -> Tensor {
            var norms = ResidualNorms(weights)
            let y = try norms.relu(try x.channelsLast().convolved(try weights.tensor("stem.conv.weight"), nil, padding: 1), "stem.norm", statistics: "stem.norm")
            return try network.head(try stage.units.mixed(y, shares: try units.oneHot(4).cast(to: .f32), step: 0, weights, &norms), weights)
        }
        func isTrained(_ name: String) -> Bool { name.hasPrefix("controller") || name.contains(".embedding.") || name.contains(".choice.") }
        let still = weights.tensors.filter { !isTrained($0.name) }.map { ($0.name, $0.tensor) }
        var trainedWeights = NamedTensors(weights.tensors.filter { isTrained($0.name) }.map { ($0.name, $0.tensor) })
        var adam = try Adam(for: trainedWeights)
        let (x, _, labels) = try rows("learned", 400)
        for _ in 0..<250 {
            let gradient = try valueAndGradient(at: trainedWeights) { (w) throws(AccrueError) in
                let all = NamedTensors(still + w.tensors.map { ($0.name, $0.tensor) })
                return try Self.trained(network, x, all, .soft).logits.crossEntropy(labels)
            }.gradient
            try adam.update(&trainedWeights, gradient: gradient, rate: 0.03)
        }
        let held = try rows("held", 400), all = NamedTensors(still + trainedWeights.tensors.map { ($0.name, $0.tensor) })
        let (said, shares) = try Self.trained(network, held.x, all, .hard), right = try held.labels.doubles()
        func accuracy(_ logits: Tensor) throws -> Double { Double(zip(try logits.argmax(1).doubles(), right).count { $0 == $1 }) / 400 }
        let fixed = try (0..<4).map { try accuracy(try logits(held.x, try Tensor([Int](repeating: $0, count: 400)))) }
        return (try shares[0][0].argmax(1).doubles().map { Int($0) }, held.clusters, try accuracy(said), fixed)
    }

    @Test("a controller finds the unit that each cluster needs, where no unit serves all; where all need one, routes say nothing of clusters")
    func clusters() throws {
        let found = try Self.toy(wanted: [2, 0, 3, 1])
        var pairs = [[Double]](repeating: [0, 0, 0, 0], count: 4)
        for (cluster, unit) in zip(found.clusters, found.chosen) { pairs[cluster][unit] += 1 }
        for (cluster, unit) in [2, 0, 3, 1].enumerated() { #expect(pairs[cluster][unit] / pairs[cluster].reduce(0, +) > 0.95, "\(pairs)") }
        #expect(found.accuracy > 0.97 && found.fixed.allSatisfy { $0 < 0.8 }, "\(found.accuracy), \(found.fixed)")
        #expect(RouteInformation.mutual(pairs) > 0.9 * log(4))
        let alike = try Self.toy(wanted: [1, 1, 1, 1])
        pairs = [[Double]](repeating: [0, 0, 0, 0], count: 4)
        for (cluster, unit) in zip(alike.clusters, alike.chosen) { pairs[cluster][unit] += 1 }
        #expect(alike.accuracy > 0.97 && RouteInformation.mutual(pairs) < 0.02, "\(alike.accuracy), \(pairs)")
    }

    @Test("the full-size network with fixed routes is ResNet-38, 561,370 parameters and 83.0 million multiply-adds; the controller has 2,206 more")
    func sizes() throws {
        let sizes = (channels: [16, 32, 64], units: [6, 5, 5])
        let fixed = try Self.network(channels: sizes.channels, units: sizes.units, steps: sizes.units, input: [3, 32, 32], classes: 10, fixed: true)
        let routed = try Self.network(channels: sizes.channels, units: sizes.units, steps: sizes.units, input: [3, 32, 32], classes: 10)
        let resNet = try fixed.initialWeights(key: Self.key), fixedNames = Set(resNet.tensors.map(\.name))
        #expect(resNet.elementCount == 561_370)
        let rest = try routed.initialWeights(key: Self.key).tensors.filter { !fixedNames.contains($0.name) }
        func elements(_ belongs: (String) -> Bool) -> Int { rest.filter { belongs($0.name) }.reduce(0) { $0 + $1.tensor.elementCount } }
        #expect(elements { $0.hasPrefix("controller") } == 880 && elements { $0.contains(".embedding.") } == 1_150 && elements { $0.contains(".choice.") } == 176)
        #expect(elements { _ in true } == 2_206)
        #expect(abs(fixed.multiplyAdds() - 83.0e6) < 0.05e6, "\(fixed.multiplyAdds())")
        for (channels, parameters) in [(16, 4_672), (32, 18_560), (64, 73_984)] {
            let block = try ResidualUnits("block", count: 1, channels: channels).initialWeights(lastScale: 1, key: Self.key)
            #expect(block.reduce(0) { $0 + $1.1.elementCount } == parameters)
        }
        #expect(routed.multiplyAdds() < 1.001 * fixed.multiplyAdds() && routed.multiplyAddsOfAll > 4.5 * fixed.multiplyAdds())
    }
}
