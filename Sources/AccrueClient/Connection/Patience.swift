/// How long a client waits, in milliseconds.
public struct Patience: Sendable {
    /// For a coordinator's first answer.
    public var helloMs: Int
    /// For the answer to a request.
    public var askMs: Int
    /// For a pipeline to be made: a worker computes its version 0.
    public var applyMs: Int
    /// How long pushes, queries and waiting go on while the coordinator is silent or no worker is there, as when the daemon is started anew.
    public var absenceMs: Int

    public init(helloMs: Int = 5_000, askMs: Int = 15_000, applyMs: Int = 60_000, absenceMs: Int = 30_000) {
        self.helloMs = helloMs
        self.askMs = askMs
        self.applyMs = applyMs
        self.absenceMs = absenceMs
    }
}
