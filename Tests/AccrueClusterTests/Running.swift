import AccrueCore

/// Runs a service of this process for as long as something else takes.
enum Running {
    /// - Throws: what `body` throws; what the service throws, when that ends by itself or badly.
    static func during<Value: Sendable>(
        _ service: @escaping @Sendable (@escaping @Sendable () async -> Void) async throws(AccrueError) -> Void, _ body: @Sendable () async throws -> Value
    ) async throws -> Value {
        let (ends, end) = AsyncStream<Void>.makeStream()
        let running = Task { () -> AccrueError? in
            do throws(AccrueError) { try await service { for await _ in ends { return } } } catch { return error }
            return nil
        }
        let result: Result<Value, any Error>
        do { result = .success(try await body()) } catch { result = .failure(error) }
        end.yield()
        if let error = await running.value { throw error }
        return try result.get()
    }
}
