public import AccrueCore
public import AccrueWire

extension Message {
    /// A lease's result whose blob is not here any more is none: read as a failure of the surroundings, so that the lease is given again.
    /// - Parameter isHere: whether a blob that a worker has put is in memory.
    public func unlessLost(_ isHere: (ContentHash) -> Bool) -> Message {
        guard known == .done, let done: LeaseDone = try? read(), let blob = done.blob, !isHere(blob) else { return self }
        let error = AccrueError(.unavailable, while: "taking a lease's result", "its blob \(blob.short) is not here any more", hint: "do the lease again")
        return (try? Message(.failed, id: id, encoding: LeaseFailed(worker: done.worker, lease: done.lease, kind: .environment, error: error))) ?? self
    }
}
