import AccrueClient
import AccrueCore

/// Whether a daemon answers, and how it is.
struct DaemonCheckup {
    let connection: ConnectOptions

    func findings() async -> [Finding] {
        do throws(AccrueError) {
            let status = try await connection.open().status()
            let alive = status.workers.filter(\.alive)
            let workers = alive.count { $0.role == .worker }, queriers = alive.count { $0.role == .querier }
            let missing = workers == 0 ? "worker" : queriers == 0 ? "querier" : nil
            let daemon = Finding(
                "daemon", missing == nil ? .ok : .warning, "answers at \(connection.endpoint): \(workers) workers and \(queriers) queriers are there, \(status.pipelines.count) pipelines",
                hint: missing.map { "no \($0) is there; look at what 'accrue serve' says" })
            let troubled = status.pipelines.compactMap { pipeline in
                StatusText.trouble(of: pipeline).map { Finding("pipeline \(pipeline.name)", .warning, $0) }
            }
            return [daemon] + troubled
        } catch { return [Finding("daemon", .warning, "\(error.problem) (\(connection.endpoint))", hint: error.hint)] }
    }
}
