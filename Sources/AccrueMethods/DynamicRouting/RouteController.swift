import AccrueCore
import AccrueTensor

/// The recurrent controller: pooled channels of the feature map, normalised over the channels so that gates do not saturate, an embedding for each stage, and
/// an LSTM or GRU whose state is each picture's own and starts at zero.
///
/// Source of its size and shape: the recurrent gate of SkipNet (Wang et al. 2018, its code); ReSet's own was not to be found. The normalisation is this
/// project's.
struct RouteController: Equatable, Sendable {
    enum Kind: String, CaseIterable, Sendable {
        case lstm
        case gru
        /// Numbers of gates.
        var gates: Int { self == .lstm ? 4 : 3 }
    }
    var kind: Kind
    /// d, of the embedding.
    var embedding: Int
    /// d_h.
    var hidden: Int
    /// One for all stages, or one each.
    var shared: Bool

    /// What it remembers of the pictures at hand, each [rows, hidden].
    struct Memory {
        var hidden: Tensor
        var cell: Tensor?

        /// Of other rows, or the same in another order.
        func rows(_ index: Tensor) throws(AccrueError) -> Memory {
            Memory(hidden: try hidden.rows(index), cell: try cell.map { (cell) throws(AccrueError) in try cell.rows(index) })
        }
    }

    /// Before the first step.
    func memory(rows: Int, dtype: DType) throws(AccrueError) -> Memory {
        let zeros = try Tensor.zeros([rows, hidden], dtype: dtype)
        return Memory(hidden: zeros, cell: kind == .lstm ? zeros : nil)
    }

    /// First weights: N(0, 1/fan-in), biases zero.
    func initialWeights(_ stages: [RoutedStage], choices: (RoutedStage) -> Int, key: RandomKey) throws(AccrueError) -> [(String, Tensor)] {
        var list: [(String, Tensor)] = []
        func dense(_ name: String, _ outputs: Int, _ inputs: Int) throws(AccrueError) {
            list.append(("\(name).weight", try key.folding(name).normal([outputs, inputs]) * (1 / Double(inputs)).squareRoot()))
            list.append(("\(name).bias", try .zeros([outputs])))
        }
        for name in shared ? ["controller"] : stages.map({ "\($0.name).controller" }) {
            try dense("\(name).input", kind.gates * hidden, embedding)
            try dense("\(name).hidden", kind.gates * hidden, hidden)
        }
        for stage in stages {
            try dense("\(stage.name).embedding", embedding, stage.channels)
            try dense("\(stage.name).choice", choices(stage), hidden)
        }
        return list
    }

    /// One step: logits [rows, choices] from the feature map x [rows, channels, height, width].
    func callAsFunction(_ x: Tensor, _ memory: inout Memory, stage: RoutedStage, _ weights: NamedTensors) throws(AccrueError) -> Tensor {
        func dense(_ name: String, _ x: Tensor) throws(AccrueError) -> Tensor { try x.linear(try weights.tensor("\(name).weight"), try weights.tensor("\(name).bias")) }
        let pooled = try x.mean(2, 3)
        let centred = try pooled - (try pooled.mean(1, keepDims: true))
        let normalised = try centred * (try (try centred.squared().mean(1, keepDims: true) + 1e-5).reciprocalSquareRoot())
        let input = try dense("\(stage.name).embedding", normalised), name = shared ? "controller" : "\(stage.name).controller"
        let fromInput = try dense("\(name).input", input), fromHidden = try dense("\(name).hidden", memory.hidden)
        func gate(_ all: Tensor, _ index: Int) throws(AccrueError) -> Tensor { try all.narrowed(1, index * hidden..<(index + 1) * hidden) }
        switch memory.cell {
        case let cell?:
            let gates = try fromInput + fromHidden
            let opened = try gate(gates, 0).sigmoid() * (try gate(gates, 2).tanh())
            let next = try (try gate(gates, 1).sigmoid() * cell) + opened
            memory = Memory(hidden: try (try gate(gates, 3).sigmoid()) * (try next.tanh()), cell: next)
        case nil:
            let reset = try (try gate(fromInput, 0) + (try gate(fromHidden, 0))).sigmoid(), update = try (try gate(fromInput, 1) + (try gate(fromHidden, 1))).sigmoid()
            let new = try (try gate(fromInput, 2) + (try reset * (try gate(fromHidden, 2)))).tanh()
            memory = Memory(hidden: try new + (try update * (try memory.hidden - new)), cell: nil)
        }
        return try dense("\(stage.name).choice", memory.hidden)
    }

    /// Multiply-adds of one step for one picture; pooling not counted.
    func multiplyAdds(channels: Int, choices: Int) -> Int { channels * embedding + kind.gates * hidden * (embedding + hidden) + hidden * choices }
}
