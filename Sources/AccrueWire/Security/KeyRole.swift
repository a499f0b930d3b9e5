/// What the holder of a key may do.
public enum KeyRole: String, Codable, Sendable, CaseIterable {
    /// Pushes, and sees what becomes of it.
    case producer
    /// Works for the cluster: takes chunks, learns, answers queries.
    case worker
    /// Asks posteriors, and sees how things are.
    case reader
    /// Everything.
    case admin

    /// Whether a request is allowed. Verbs that nobody knows are: they do nothing, and their refusal says what was meant.
    public func allows(_ message: Message) -> Bool {
        guard self != .admin, let verb = message.known else { return true }
        // Whoever says that it is a worker or a querier is given leases, rows and keys.
        if verb == .hello { return self == .worker || message.header["role"]?.string == Role.client.rawValue }
        return allows(verb)
    }

    /// The table of ops/PROTOCOL.md, section 11.
    public func allows(_ verb: Verb) -> Bool {
        switch verb {
        case .hello, .status, .pipelines, .pipelineList, .pipelineShow: true
        case .push, .flush: self == .producer || self == .admin
        case .await, .chunksList: self != .worker
        case .query, .events: self == .reader || self == .admin
        case .posteriorList, .posteriorShow, .blobGet: self != .producer
        case .heartbeat, .inventory, .announce, .ready, .done, .failed, .keys, .blobPut, .fetch, .replicate: self == .worker || self == .admin
        case .pipelineApply, .pipelineDelete, .pipelineResume, .posteriorImport, .chunksRetry, .chunksSetAside: self == .admin
        // Answers, and what is sent unasked: nobody's to ask.
        case .reply, .refuse, .lease, .cancel, .drop, .hint: self == .admin
        }
    }
}
