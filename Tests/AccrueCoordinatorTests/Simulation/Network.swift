import AccrueWire

/// Carries messages between ends by name, as badly as the weather is.
///
/// Everything may be dropped, doubled and delayed. What the coordinator sends keeps its order on the way to one receiver, and so do a person's
/// requests: that is what a ZeroMQ connection gives and what the protocol relies on (an order to drop a chunk must not overtake the answer before it).
/// All else may overtake.
final class Network {
    struct Weather {
        var dropped = 0.0
        var doubled = 0.0
        var delayMs = 1...3
        static let fine = Weather()
    }

    var weather = Weather.fine
    private var receivers: [String: (Message, String) -> Void] = [:]
    /// Ends that nothing reaches and that reach nothing.
    private(set) var silent: Set<String> = []
    private var lastArrivals: [String: Int] = [:]
    private let agenda: Agenda
    private var dice: Dice

    init(agenda: Agenda, dice: Dice) {
        self.agenda = agenda
        self.dice = dice
    }

    func connect(_ end: String, _ receive: @escaping (_ message: Message, _ from: String) -> Void) { receivers[end] = receive }
    func disconnect(_ end: String) { receivers[end] = nil }

    func silence(_ end: String) { silent.insert(end) }
    func hear(_ end: String) { silent.remove(end) }

    func send(_ message: Message, from: String, to: String, inOrder: Bool = false) {
        guard !silent.contains(from), !silent.contains(to), !dice.chance(weather.dropped) else { return }
        for _ in 0...(dice.chance(weather.doubled) ? 1 : 0) {
            var arrivalMs = agenda.nowMs + dice.number(weather.delayMs)
            if inOrder {
                arrivalMs = max(arrivalMs, lastArrivals["\(from) \(to)"] ?? 0)
                lastArrivals["\(from) \(to)"] = arrivalMs
            }
            agenda.after(arrivalMs - agenda.nowMs) { [unowned self] in
                if !silent.contains(from), !silent.contains(to) { receivers[to]?(message, from) }
            }
        }
    }
}
