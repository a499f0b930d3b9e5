public import AccrueCore

/// What a method fills in to become a pipeline's way of learning. All functions are pure; randomness comes only from `key`.
///
/// A version is `begin`, then sweeps of `fit` (one a shard) and `merge`, then `statistics` (one a shard) and `finish`. Above the numerical layers a
/// method is an `OpaqueMethod`; `ErasedMethod` makes one of any `LearningMethod`.
public protocol LearningMethod: Sendable {
    /// What a version holds and a query reads. Its stored form says what each tensor is: `Safetensors.saying(roles:)`.
    associatedtype State: StoredValue
    /// A round in progress: prior, current weights, sites, optimiser moments.
    associatedtype Work: StoredValue = State
    /// What one fit adds.
    associatedtype Delta: StoredValue
    /// What the statistics pass adds; `NoStatistics` for methods without one.
    associatedtype Statistics: StoredValue = NoStatistics

    var phases: MethodPhases { get }
    func initialState(key: RandomKey) throws(AccrueError) -> State
    /// The state that a network or posterior from outside is; refused by default.
    ///
    /// Exactly what it says is taken over; `state`, the version before, gives what it does not say.
    /// - Parameter imported: the tensors of a network by the names of the model's weights, or an export of Accrue's own, whose metadata says `method`.
    /// - Throws: `invalidInput` naming the tensor that does not fit, its shape and the one needed.
    func adopt(_ imported: Safetensors, into state: State, key: RandomKey) throws(AccrueError) -> State
    /// The state of a method with an older schema as one of this method, whose schema has classes appended; refused by default. What the old schema
    /// has keeps its numbers, bit for bit.
    func adapt(_ state: State, from old: Schema, key: RandomKey) throws(AccrueError) -> State
    func begin(_ state: State, round: Round, key: RandomKey) throws(AccrueError) -> Work
    /// - Parameter shard: the shard's stretches of rows, in log order.
    func fit(_ work: Work, to shard: [Rows], round: Round, key: RandomKey) throws(AccrueError) -> (delta: Delta, report: FitReport)
    /// - Parameter deltas: one a shard, in shard order.
    func merge(_ deltas: [Weighted<Delta>], into work: Work, round: Round, key: RandomKey) throws(AccrueError) -> Work
    /// One last pass over the data with the merged weights; nil (the default) for methods without it.
    func statistics(of work: Work, on shard: [Rows], round: Round, key: RandomKey) throws(AccrueError) -> Statistics?
    /// The rows scored before they are learned; nil (the default) for methods that cannot predict.
    func score(_ state: State, on rows: Rows, key: RandomKey) throws(AccrueError) -> Score?
    /// Makes the version.
    /// - Parameter moments: one a shard, in shard order; empty without a statistics pass.
    func finish(_ work: Work, round: Round, moments: [Statistics], scores: Score?, key: RandomKey) throws(AccrueError) -> State
    /// What is to be said of a state that `finish` made, to people; nothing by default.
    func remarks(on state: State) throws(AccrueError) -> [Remark]
    /// The state made ready for queries: what every answer needs is computed here, once.
    func load(_ state: State) throws(AccrueError) -> any LoadedState
}

extension LearningMethod {
    public func adopt(_ imported: Safetensors, into state: State, key: RandomKey) throws(AccrueError) -> State {
        throw AccrueError(.invalidInput, while: "importing a posterior", "this method cannot go on from one that it did not make", hint: "push the data that it was learned from")
    }
    public func adapt(_ state: State, from old: Schema, key: RandomKey) throws(AccrueError) -> State {
        throw AccrueError(
            .invalidInput, while: "appending classes", "this method cannot take classes that it did not start with", hint: "apply a pipeline of another name, and push the data to it")
    }
    public func statistics(of work: Work, on shard: [Rows], round: Round, key: RandomKey) throws(AccrueError) -> Statistics? { nil }
    public func score(_ state: State, on rows: Rows, key: RandomKey) throws(AccrueError) -> Score? { nil }
    public func remarks(on state: State) throws(AccrueError) -> [Remark] { [] }
}

extension LearningMethod where Work == State {
    public func begin(_ state: State, round: Round, key: RandomKey) throws(AccrueError) -> Work { state }
    public func finish(_ work: Work, round: Round, moments: [Statistics], scores: Score?, key: RandomKey) throws(AccrueError) -> State { work }
}
