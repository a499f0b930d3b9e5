public import AccrueCore
public import Foundation

/// Any learning method as bytes in, bytes out.
public struct ErasedMethod<Method: LearningMethod>: OpaqueMethod {
    public let method: Method
    public init(_ method: Method) { self.method = method }

    public var phases: MethodPhases { method.phases }

    public func initialState(key: RandomKey) throws(AccrueError) -> Data { try method.initialState(key: key).bytes }

    public func adopt(_ imported: Data, into state: Data, key: RandomKey) throws(AccrueError) -> Data {
        try method.adopt(try Safetensors.decode(imported), into: try Method.State(bytes: state), key: key).bytes
    }

    public func adapt(_ state: Data, from old: Schema, key: RandomKey) throws(AccrueError) -> Data {
        try method.adapt(try Method.State(bytes: state), from: old, key: key).bytes
    }

    public func begin(_ state: Data, round: Round, key: RandomKey) throws(AccrueError) -> Data {
        try method.begin(try Method.State(bytes: state), round: round, key: key).bytes
    }

    public func fit(_ work: Data, to shard: [Rows], round: Round, key: RandomKey) throws(AccrueError) -> (delta: Data, report: FitReport) {
        let (delta, report) = try method.fit(try Method.Work(bytes: work), to: shard, round: round, key: key)
        return (delta.bytes, report)
    }

    public func merge(_ deltas: [(delta: Data, rows: Int)], into work: Data, round: Round, key: RandomKey) throws(AccrueError) -> Data {
        var decoded: [Weighted<Method.Delta>] = []
        for (delta, rows) in deltas { decoded.append(Weighted(try Method.Delta(bytes: delta), rows: rows)) }
        return try method.merge(decoded, into: try Method.Work(bytes: work), round: round, key: key).bytes
    }

    public func statistics(of work: Data, on shard: [Rows], round: Round, key: RandomKey) throws(AccrueError) -> Data? {
        try method.statistics(of: try Method.Work(bytes: work), on: shard, round: round, key: key)?.bytes
    }

    public func score(_ state: Data, on rows: Rows, key: RandomKey) throws(AccrueError) -> Score? {
        try method.score(try Method.State(bytes: state), on: rows, key: key)
    }

    public func finish(_ work: Data, round: Round, moments: [Data], scores: Score?, key: RandomKey) throws(AccrueError) -> Data {
        var decoded: [Method.Statistics] = []
        for part in moments { decoded.append(try Method.Statistics(bytes: part)) }
        return try method.finish(try Method.Work(bytes: work), round: round, moments: decoded, scores: scores, key: key).bytes
    }

    public func remarks(on state: Data) throws(AccrueError) -> [Remark] { try method.remarks(on: try Method.State(bytes: state)) }

    public func load(_ state: Data) throws(AccrueError) -> any LoadedState { try method.load(try Method.State(bytes: state)) }
}
