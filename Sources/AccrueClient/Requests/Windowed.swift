import AccrueCore

/// Does a piece of work for each index from 0 on, at most `window` at a time, and hands the results on in the order of the indices.
///
/// - Throws: the first failure; no work begins after it, and what was under way is finished first.
func windowed<Value: Sendable>(
    count: Int, window: Int, work: @escaping @Sendable (Int) async throws(AccrueError) -> Value, each: (Int, Value) -> Void
) async throws(AccrueError) {
    if window <= 1 {
        for index in 0..<count { each(index, try await work(index)) }
        return
    }
    let failure = await withTaskGroup(of: (Int, Result<Value, AccrueError>).self) { group -> AccrueError? in
        var next = 0, told = 0
        var early: [Int: Value] = [:]
        var failure: AccrueError?
        func launch() {
            let index = next
            next += 1
            group.addTask {
                do throws(AccrueError) { return (index, .success(try await work(index))) } catch { return (index, .failure(error)) }
            }
        }
        while next < min(count, max(1, window)) { launch() }
        for await (index, result) in group {
            switch result {
            case .success(let value): early[index] = value
            case .failure(let error): failure = failure ?? error
            }
            while let value = early.removeValue(forKey: told) {
                each(told, value)
                told += 1
            }
            if failure == nil, next < count { launch() }
        }
        return failure
    }
    if let failure { throw failure }
}
