import AccrueCore
import AccrueMethods
import AccrueTensor
import AccrueWorker
import ArgumentParser

/// `accrue-engine worker`: takes chunks, keeps them, and learns from them when the coordinator asks.
struct WorkerCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "worker", abstract: "Take chunks and learn from them.",
        discussion: """
            SIGTERM: no more pushes are taken, those under way are answered, the lease is given back; then the process ends with code 0.
            Example: accrue-engine worker --coordinator ipc:///var/lib/accrue/run/control.sock --home /var/lib/accrue/worker-0 --name worker-0
            """)

    @OptionGroup var options: ServiceOptions

    func run() throws {
        let settings = try MemberSettings.worker(
            coordinator: options.coordinator, home: options.home, name: options.name, listen: options.listen, advertise: options.advertise,
            key: try options.key(), isInsecure: options.insecure)
        let process = ServiceProcess(role: "worker", name: settings.name)
        let service = WorkerService(
            settings, catalog: .standard, beginThread: { EngineFingerprint.beginThread() }, report: { process.report($0) }, fatal: { process.die($0) })
        process.live(parentHolds: options.parentHolds) { (end) async throws(AccrueError) in try await service.run { await end.requested() } }
    }
}
