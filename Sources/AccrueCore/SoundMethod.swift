import Foundation

/// A method of which nothing goes on that is not finite: a step that makes such a number has diverged, and says so where the rows are known that it read.
struct SoundMethod: OpaqueMethod {
    let method: any OpaqueMethod

    var phases: MethodPhases { method.phases }
    var takesMissing: Bool { method.takesMissing }

    func initialState(key: RandomKey) throws(AccrueError) -> Data { try checked(try method.initialState(key: key), "starting") }

    func adopt(_ imported: Data, into state: Data, key: RandomKey) throws(AccrueError) -> Data {
        if let name = Self.notFinite(imported) {
            throw AccrueError(.invalidInput, while: "importing a posterior", "tensor '\(name)' has numbers that are not finite", hint: "import finite numbers")
        }
        return try checked(try method.adopt(imported, into: state, key: key), "importing a posterior")
    }

    func adapt(_ state: Data, from old: Schema, key: RandomKey) throws(AccrueError) -> Data { try checked(try method.adapt(state, from: old, key: key), "appending classes") }

    func begin(_ state: Data, round: Round, key: RandomKey) throws(AccrueError) -> Data { try method.begin(state, round: round, key: key) }

    func fit(_ work: Data, to shard: [Rows], round: Round, key: RandomKey) throws(AccrueError) -> (delta: Data, report: FitReport) {
        let (delta, report) = try method.fit(work, to: shard, round: round, key: key)
        if let (name, value) = report.figures.sorted(by: { $0.key < $1.key }).first(where: { !$0.value.isFinite }) { throw diverged("learning", "'\(name)' is \(value)") }
        return (try checked(delta, "learning"), report)
    }

    func merge(_ deltas: [(delta: Data, rows: Int)], into work: Data, round: Round, key: RandomKey) throws(AccrueError) -> Data {
        try checked(try method.merge(deltas, into: work, round: round, key: key), "merging")
    }

    func statistics(of work: Data, on shard: [Rows], round: Round, key: RandomKey) throws(AccrueError) -> Data? {
        try method.statistics(of: work, on: shard, round: round, key: key).map { moments throws(AccrueError) in try checked(moments, "taking statistics") }
    }

    func score(_ state: Data, on rows: Rows, key: RandomKey) throws(AccrueError) -> Score? {
        let score = try method.score(state, on: rows, key: key)
        if let score, !score.isFinite { throw diverged("scoring rows before they are learned", "a row's log predictive density, its square or another of its figures is not finite") }
        return score
    }

    func finish(_ work: Data, round: Round, moments: [Data], scores: Score?, key: RandomKey) throws(AccrueError) -> Data {
        try checked(try method.finish(work, round: round, moments: moments, scores: scores, key: key), "making a version")
    }

    func remarks(on state: Data) throws(AccrueError) -> [Remark] { try method.remarks(on: state) }

    func load(_ state: Data) throws(AccrueError) -> any LoadedState { try method.load(state) }

    private func checked(_ blob: Data, _ operation: String) throws(AccrueError) -> Data {
        if let name = Self.notFinite(blob) { throw diverged(operation, "'\(name)' has a number that is not finite") }
        return blob
    }

    private func diverged(_ operation: String, _ problem: String) -> AccrueError {
        AccrueError(.diverged, while: operation, problem, hint: "look for rows of another scale than the others, or take a smaller learningRate")
    }

    /// A tensor with a number that is not finite; nil when there is none, or when these bytes are no tensors.
    private static func notFinite(_ blob: Data) -> String? {
        guard let tensors = try? Safetensors.decode(blob).tensors else { return nil }
        return tensors.sorted { $0.key < $1.key }.first { $0.value.firstNotFinite() != nil }?.key
    }
}
