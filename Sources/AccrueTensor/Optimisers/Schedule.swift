import Foundation

/// A learning rate as a function of the step: no state, so a restart in mid-cycle continues as if nothing had happened.
public indirect enum Schedule: Equatable, Sendable {
    case constant(Double)
    /// From `from` at step 0 in a straight line to `to` at the last step, constant after it.
    case linear(from: Double, to: Double, steps: Int)
    /// Constant for `start` steps, then in a straight line to `to` at the last step.
    case held(_ rate: Double, to: Double, start: Int, steps: Int)
    /// 0 for `start` steps, then in a straight line to `to` at step `end`, constant after it.
    case ramp(to: Double, start: Int, end: Int)
    /// Half a cosine from `from` to `to` (Loshchilov & Hutter 2017, without restarts).
    case cosine(from: Double, to: Double, steps: Int)
    /// SWA's: `initial` for half of `reference` units, linear down to `averaging` at nine tenths, constant after it.
    /// Source: Izmailov et al. 2018, code timgaripov/swa, train.py; there the unit is an epoch and `reference` is swa_start.
    case averaging(initial: Double, averaging: Double, reference: Double)
    /// SWA's cyclical one: falls linearly from `high` to `low` within each cycle, then jumps back. Source: Izmailov et al. 2018; from memory.
    case cyclical(high: Double, low: Double, cycle: Int)
    /// FGE's triangular one: from `high` to `low` and back within each cycle. Source: Garipov et al. 2018, code dnn-mode-connectivity, utils.py.
    case triangular(high: Double, low: Double, cycle: Double)
    /// One schedule before a step, another from there on, for which that step is step 0.
    case sequence(Schedule, until: Double, then: Schedule)

    /// The rate at a step (0-based; fractions are allowed where the unit is an epoch).
    public func rate(at step: Double) -> Double {
        switch self {
        case .constant(let rate): return rate
        case .linear(let from, let to, let steps):
            let t = min(1, step / Double(max(1, steps - 1)))
            return from + (to - from) * t
        case .held(let rate, let to, let start, let steps):
            let t = min(1, max(0, step - Double(start)) / Double(max(1, steps - 1 - start)))
            return rate + (to - rate) * t
        case .ramp(let to, let start, let end):
            if end <= start { return step < Double(start) ? 0 : to }
            return to * min(1, max(0, (step - Double(start)) / Double(end - start)))
        case .cosine(let from, let to, let steps):
            let t = min(1, step / Double(max(1, steps - 1)))
            return to + (from - to) * 0.5 * (1 + cos(.pi * t))
        case .averaging(let initial, let averaging, let reference):
            let t = step / reference, ratio = averaging / initial
            if t <= 0.5 { return initial }
            if t <= 0.9 { return initial * (1 - (1 - ratio) * (t - 0.5) / 0.4) }
            return averaging
        case .cyclical(let high, let low, let cycle):
            let t = (step.truncatingRemainder(dividingBy: Double(cycle)) + 1) / Double(cycle)
            return (1 - t) * high + t * low
        case .triangular(let high, let low, let cycle):
            let u = step.truncatingRemainder(dividingBy: cycle) / cycle
            return u < 0.5 ? high * (1 - 2 * u) + low * 2 * u : high * (2 * u - 1) + low * (2 - 2 * u)
        case .sequence(let first, let until, let second): return step < until ? first.rate(at: step) : second.rate(at: step - until)
        }
    }
}
