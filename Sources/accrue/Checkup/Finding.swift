/// One thing that was looked at, and what was found.
struct Finding: Codable, Equatable, Sendable {
    enum State: String, Codable, Sendable {
        case ok
        /// Works, but a person may want to know.
        case warning
        /// Will not work.
        case problem
    }

    var subject: String
    var state: State
    var text: String
    /// What to do about it.
    var hint: String?

    init(_ subject: String, _ text: String) { self.init(subject, .ok, text) }

    init(_ subject: String, _ state: State, _ text: String, hint: String? = nil) {
        self.subject = subject
        self.state = state
        self.text = text
        self.hint = hint
    }
}
