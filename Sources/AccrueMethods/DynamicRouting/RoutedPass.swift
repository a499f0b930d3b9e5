import AccrueBayes
import AccrueCore
import AccrueTensor

/// A routed network with statistics folded in, for predictions and for reading routes.
struct RoutedPass: Sendable {
    private let network: RoutedNetwork
    private let weights: NamedTensors
    private let stem: FoldedConvolution
    private let blocks: [FoldedDownsampling?]
    /// By stage and step.
    private let units: [[FoldedUnits]]

    /// How a pass goes about routes.
    enum Way: Sendable {
        /// One unit a step for each picture: pictures are sorted by unit, and only what is chosen is computed.
        case grouped(RouteRule)
        /// All units of a step are computed, and mixed by the rule's shares.
        case mixed(RouteRule)
    }

    /// What was chosen for each picture, stage by stage and step by step.
    struct Routes: Sendable {
        /// [rows] choices.
        var chosen: [[[Int]]]
        /// [rows] of probabilities of all choices, without noise and at temperature 1.
        var probabilities: [[[[Double]]]]
    }

    init(_ network: RoutedNetwork, _ weights: NamedTensors, _ statistics: NamedTensors) throws(AccrueError) {
        self.network = network
        self.weights = weights
        stem = try FoldedConvolution("stem.conv.weight", norm: "stem.norm", weights, statistics, named: "stem.norm")
        var blocks: [FoldedDownsampling?] = [], units: [[FoldedUnits]] = []
        for stage in network.stages {
            blocks.append(try stage.downsampling.map { (block) throws(AccrueError) in try FoldedDownsampling(block, weights, statistics) })
            var steps: [FoldedUnits] = []
            for step in 0..<stage.steps { steps.append(try FoldedUnits(stage.units, step: step, only: network.isFixed ? step : nil, weights, statistics)) }
            units.append(steps)
        }
        self.blocks = blocks
        self.units = units
    }

    /// Logits [rows, classes] of inputs [rows] + the network's input shape.
    /// - Parameter reading: what was chosen is wanted.
    func callAsFunction(_ inputs: Tensor, _ way: Way, temperature: Double, reading: Bool = false) throws(AccrueError) -> (logits: Tensor, routes: Routes?) {
        let rows = inputs.rowCount
        var x = try stem(try inputs.reshaped([rows] + network.inputShape).channelsLast()).relu()
        var memory = try network.controller.memory(rows: rows, dtype: x.dtype)
        // Row i of what is computed is row order[i] of the inputs.
        var order = Array(0..<rows), routes = Routes(chosen: [], probabilities: [])
        for (index, stage) in network.stages.enumerated() {
            if let block = blocks[index] { x = try block(x) }
            routes.chosen.append([])
            routes.probabilities.append([])
            for step in 0..<stage.steps {
                if network.isFixed {
                    x = try units[index][step].applied(0, to: x)
                    continue
                }
                let logits = try network.controller(x, &memory, stage: stage, weights), place = stage.firstStep + step
                let rule: RouteRule
                switch way { case .grouped(let given), .mixed(let given): rule = given }
                // Noise belongs to a picture, not to its place among those sorted.
                let shares = try restored(try rule.shares(try sorted(logits, back: order), temperature: temperature, place: place), order)
                var chosen: [Int] = []
                if reading || isGrouped(way) { chosen = try shares.argmax(1).doubles().map { Int($0) } }
                if reading {
                    let probabilities = try logits.softmax(1).doubles(), choices = logits.shape[1]
                    var ids = [Int](repeating: 0, count: rows), rowsOf = [[Double]](repeating: [], count: rows)
                    for place in 0..<rows {
                        ids[order[place]] = chosen[place]
                        rowsOf[order[place]] = Array(probabilities[place * choices..<(place + 1) * choices])
                    }
                    routes.chosen[index].append(ids)
                    routes.probabilities[index].append(rowsOf)
                }
                if isGrouped(way) {
                    x = try grouped(x, chosen, index, step, &memory, &order)
                } else {
                    x = try units[index][step].mixed(x, shares: network.skip ? try shares.narrowed(1, 0..<stage.units.count) : shares)
                }
            }
        }
        return (try sorted(try network.head(x, weights), back: order), reading ? routes : nil)
    }

    private func isGrouped(_ way: Way) -> Bool { if case .grouped = way { true } else { false } }

    /// Rows of what is computed, in the order of the inputs.
    private func sorted(_ rows: Tensor, back order: [Int]) throws(AccrueError) -> Tensor {
        guard !order.elementsEqual(order.indices) else { return rows }
        var places = order
        for (place, row) in order.enumerated() { places[row] = place }
        return try rows.rows(try Tensor(places))
    }

    /// The other way round.
    private func restored(_ rows: Tensor, _ order: [Int]) throws(AccrueError) -> Tensor {
        order.elementsEqual(order.indices) ? rows : try rows.rows(try Tensor(order))
    }

    /// One step of the chosen units, each on its own pictures; units that none chose are not touched. Pictures stay sorted by their unit.
    private func grouped(
        _ x: Tensor, _ chosen: [Int], _ stage: Int, _ step: Int, _ memory: inout RouteController.Memory, _ order: inout [Int]
    ) throws(AccrueError) -> Tensor {
        let count = network.stages[stage].units.count
        var places = [[Int]](repeating: [], count: count + 1)
        for (place, unit) in chosen.enumerated() { places[unit].append(place) }
        let sorting = places.flatMap(\.self)
        var x = x
        if !sorting.elementsEqual(sorting.indices) {
            let index = try Tensor(sorting)
            // A position's channels stay side by side.
            x = try x.permuted([0, 2, 3, 1]).rows(index).permuted([0, 3, 1, 2])
            memory = try memory.rows(index)
            order = sorting.map { order[$0] }
        }
        var parts: [Tensor] = [], start = 0
        for (unit, rows) in places.enumerated() where !rows.isEmpty {
            let part = try x.rows(start..<start + rows.count)
            // To skip is the last choice; features behind a ReLU are what they are.
            parts.append(unit < count ? try units[stage][step].applied(unit, to: part) : part)
            start += rows.count
        }
        return parts.count == 1 ? parts[0] : try .concatenated(parts)
    }
}
