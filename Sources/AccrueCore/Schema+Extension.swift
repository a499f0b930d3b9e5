// Schemas that grow: classes are appended to a target, everything else stays.

extension Schema {
    /// Whether `later` is this schema with more classes of its targets: the old ones first and unchanged, all else equal.
    public func isExtended(by later: Schema) -> Bool {
        guard later != self, later.tensors.count == tensors.count else { return false }
        return zip(tensors, later.tensors).allSatisfy { old, new in
            guard old != new else { return true }
            guard old.role == .target, let before = old.classes, let after = new.classes, after.count > before.count, after.starts(with: before) else { return false }
            var same = new
            same.classes = before
            return same == old
        }
    }
}

extension PipelineDeclaration {
    /// The same with another schema.
    public func with(schema: Schema) -> PipelineDeclaration {
        var result = self
        result.schema = schema
        return result
    }

    /// The keys of the file whose values differ.
    public func differences(from other: PipelineDeclaration) -> [String] {
        let parts: [(String, Bool)] = [
            ("name", name == other.name), ("method", method == other.method), ("seed", seed == other.seed), ("schema", schema == other.schema),
            ("settings", settings == other.settings), ("round", round == other.round), ("shards", shards == other.shards), ("sweeps", sweeps == other.sweeps),
            ("replicas", replicas == other.replicas), ("retention", retention == other.retention), ("limits", limits == other.limits),
        ]
        return parts.filter { !$0.1 }.map(\.0)
    }
}
