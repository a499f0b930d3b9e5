public import AccrueCore
public import AccrueStore
public import Foundation

extension Store {
    /// Makes one change of truth.
    /// - Parameter state: the bytes of a state that a worker has put; nil when they are not there any more.
    /// - Throws: `conflict`, `notFound` and `invalidInput` where the store refuses the change and is as it was; what else it throws leaves unknown what the
    ///   disk holds.
    public func make(_ change: StoreChange, state: (ContentHash) -> Data?) throws(AccrueError) -> StoreOutcome {
        switch change {
        case .append(let chunks, let incarnation): return .appended(try append(chunks, incarnation: incarnation))
        case .appendEntry(.import(let imported), let incarnation):
            guard state(imported.file) != nil || states.exists(imported.file) else {
                throw AccrueError(.notFound, while: "keeping import \(imported.file.short)", "its bytes are gone from memory", hint: "import the file again")
            }
            _ = try keep(imported.file, state(imported.file))
            return .position(try append(.import(imported), incarnation: incarnation))
        case .appendEntry(let kind, let incarnation): return .position(try append(kind, incarnation: incarnation))
        case .retry(let position, let incarnation): return .position(try retry(position: position, incarnation: incarnation))
        case .create(let declaration, let incarnation, let phases, let hash, let createdAtMs):
            let bytes = try keep(hash, state(hash))
            try createPipeline(declaration, incarnation: incarnation, phases: phases, initialState: hash, bytes: bytes, createdAtMs: createdAtMs)
            return .done(bytes: bytes)
        case .delete(let incarnation):
            try deletePipeline(incarnation: incarnation)
            return .done(bytes: 0)
        case .setPaused(let reason, let incarnation):
            try setPaused(reason, incarnation: incarnation)
            return .done(bytes: 0)
        case .publish(var version, let incarnation):
            version.bytes = try keep(version.state, state(version.state))
            try publish(version, incarnation: incarnation)
            return .done(bytes: version.bytes)
        }
    }

    /// Makes a state durable under its hash.
    private func keep(_ hash: ContentHash, _ bytes: Data?) throws(AccrueError) -> Int {
        guard let bytes else {
            if states.exists(hash) { return try states.read(hash).count }
            throw AccrueError(.corrupt, while: "keeping state \(hash.short)", "its bytes are gone from memory", hint: "start again: the round is learned anew")
        }
        _ = try states.put(bytes)
        return bytes.count
    }
}
