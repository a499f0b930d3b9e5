import AccrueCore
import AccrueMethods
import AccrueTensor
import AccrueWorker
import ArgumentParser

/// `accrue-engine querier`: answers questions from the newest version of each pipeline.
struct QuerierCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "querier", abstract: "Answer queries from the newest versions.",
        discussion: "Example: accrue-engine querier --coordinator ipc:///var/lib/accrue/run/control.sock --home /var/lib/accrue/querier")

    @OptionGroup var options: ServiceOptions

    func run() throws {
        let settings = try MemberSettings.querier(
            coordinator: options.coordinator, home: options.home, name: options.name, listen: options.listen, advertise: options.advertise,
            key: try options.key(), isInsecure: options.insecure)
        let process = ServiceProcess(role: "querier", name: settings.name)
        let service = QuerierService(settings, catalog: .standard, beginThread: { EngineFingerprint.beginThread() }, report: { process.report($0) })
        process.live(parentHolds: options.parentHolds) { (end) async throws(AccrueError) in try await service.run { await end.requested() } }
    }
}
