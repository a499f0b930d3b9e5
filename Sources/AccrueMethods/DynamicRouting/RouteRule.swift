import AccrueCore
import AccrueTensor

/// How logits over a set of units become shares of the units, at temperature T.
enum RouteRule: Sendable {
    /// softmax(l / T).
    case soft
    /// softmax((l + G) / T), G standard Gumbel numbers of each picture and step.
    case gumbel(RandomKey)
    /// A one at the largest of l + G, with the gradient of the softmax; nil: without G.
    case straightThrough(RandomKey?)
    /// Softmax over the k largest logits, zero elsewhere; more than k where there are ties.
    case topK(Int)
    /// A one at the largest logit.
    case hard
    /// A one at the largest of l + G.
    case drawn(RandomKey)
    /// Unit t at step t (t modulo their number), beside which a controller learns to choose it: its own shares are those that are returned.
    case ordered
    /// Unit t at step t: no controller.
    case fixed

    /// Whether a step uses one unit for each picture.
    var isHard: Bool {
        switch self {
        case .hard, .drawn, .fixed, .ordered, .straightThrough: true
        case .soft, .gumbel, .topK: false
        }
    }

    /// Shares [rows, choices] from logits [rows, choices] of a step.
    /// - Parameter place: the step's number in the network.
    ///
    /// Sources: Jang, Gu & Poole 2017 (arXiv 1611.01144) and Maddison, Mnih & Teh 2017 (arXiv 1611.00712) for Gumbel's; which of these ReSet used is not known.
    func shares(_ logits: Tensor, temperature: Double, place: Int) throws(AccrueError) -> Tensor {
        switch self {
        case .soft: return try (logits / temperature).softmax(1)
        case .gumbel(let key): return try ((try noisy(logits, key, place)) / temperature).softmax(1)
        case .straightThrough(let key):
            let noisy = try key.map { (key) throws(AccrueError) in try self.noisy(logits, key, place) } ?? logits
            let soft = try (noisy / temperature).softmax(1)
            // The difference is zero, and has the softmax's gradient.
            return try Self.largest(noisy) + (try soft - (try soft.detached()))
        case .topK(let k):
            let last = try logits.kthLargest(min(k, logits.shape[1]))
            let kept = try logits.isBelow(last).select(try .full(logits.shape, -.infinity, dtype: logits.dtype), logits)
            return try (kept / temperature).softmax(1)
        case .hard: return try Self.largest(logits)
        case .drawn(let key): return try Self.largest(try noisy(logits, key, place))
        case .fixed, .ordered: throw AccrueError(.engine, while: "routing", "fixed routes have no logits")
        }
    }

    private func noisy(_ logits: Tensor, _ key: RandomKey, _ place: Int) throws(AccrueError) -> Tensor {
        try logits + (try key.folding("gumbel").folding(place).gumbel(logits.shape, dtype: logits.dtype))
    }

    private static func largest(_ logits: Tensor) throws(AccrueError) -> Tensor { try logits.argmax(1).oneHot(logits.shape[1]).cast(to: logits.dtype) }
}
