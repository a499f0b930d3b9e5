import AccrueCore
import AccrueTensor

/// What is added to the loss for how routes are used: weights of balance, entropy and cost.
///
/// Balance: Σ over stages of M Σ p̄² − 1 with p̄ the mean shares over rows and steps, the squared coefficient of variation: 0 when all are used alike, M − 1
/// when one is. Over steps as well it is 0 when all pictures take one unit at a step and another at the next; by steps (the mean of each step's own) it is not. Entropy: the mean over rows and steps of −Σ r log r. Cost: the mean share of steps that do not skip. Whether ReSet has such terms is not known.
struct RoutePenalties: Equatable, Sendable {
    /// Whose usage is to be even.
    enum Balance: String, CaseIterable, Sendable {
        case stage
        case step
    }
    var balance: Double
    var balanced: Balance
    var entropy: Double
    var cost: Double

    /// The sum for shares of each step, stage by stage: [rows, choices]; nil when nothing is added.
    func callAsFunction(_ shares: [[Tensor]], skip: Bool) throws(AccrueError) -> Tensor? {
        var sum: Tensor?
        func add(_ term: Tensor, _ weight: Double) throws(AccrueError) {
            let weighted = try term * weight
            if let before = sum { sum = try before + weighted } else { sum = weighted }
        }
        for stage in shares where balance != 0 {
            switch balanced {
            case .stage where !stage.isEmpty: try add(try Self.balance(stage), balance)
            case .stage: break
            case .step: for step in stage { try add(try Self.balance([step]), balance / Double(stage.count)) }
            }
        }
        if entropy != 0 { try add(try Self.entropy(shares), entropy) }
        if cost != 0, skip { try add(try Self.cost(shares), cost) }
        return sum
    }

    /// Of the steps of one stage, or of one of them.
    static func balance(_ stage: [Tensor]) throws(AccrueError) -> Tensor {
        let usage = try Tensor.concatenated(stage).mean(0)
        return try (try usage.squared().sum() * Double(usage.elementCount)) - 1
    }

    /// Beside the order of a ResNet: the mean over steps and rows of the cross entropy, nats, of a controller's shares with 1 − doubt at unit t (modulo their
    /// number) and the rest spread over all choices.
    static func order(_ shares: [[Tensor]], units: [Int], doubt: Double) throws(AccrueError) -> Tensor {
        try mean(shares) { (share, stage, step) throws(AccrueError) in
            let logs = try logarithms(share), unit = step % units[stage]
            return try (try logs.narrowed(1, unit..<unit + 1).mean() * -(1 - doubt)) - (try logs.mean() * doubt)
        }
    }

    /// Nats, over all steps of all stages.
    static func entropy(_ shares: [[Tensor]]) throws(AccrueError) -> Tensor {
        try mean(shares) { (share, _, _) throws(AccrueError) in try (try share * (try logarithms(share))).sum(1).mean().negated() }
    }

    /// The last choice is to skip.
    static func cost(_ shares: [[Tensor]]) throws(AccrueError) -> Tensor {
        try mean(shares) { (share, _, _) throws(AccrueError) in try share.narrowed(1, 0..<share.shape[1] - 1).sum(1).mean() }
    }

    /// The mean over all steps of what a term says of one: its shares, its stage and its number in that.
    private static func mean(_ shares: [[Tensor]], _ term: (Tensor, _ stage: Int, _ step: Int) throws(AccrueError) -> Tensor) throws(AccrueError) -> Tensor {
        var sum = try Tensor.scalar(0, dtype: shares.joined().first?.dtype ?? .f32), steps = 0
        for (stage, here) in shares.enumerated() {
            for (step, share) in here.enumerated() {
                sum = try sum + (try term(share, stage, step))
                steps += 1
            }
        }
        return try sum / Double(max(1, steps))
    }

    /// Of shares no smaller than 1e-30.
    private static func logarithms(_ share: Tensor) throws(AccrueError) -> Tensor { try share.maximum(1e-30).log() }
}
