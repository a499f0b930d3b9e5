import AccrueCore
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
    @Option(help: "Milliseconds that a query waits for others that ask the same of other rows, to be answered in one pass with them.") var windowMs = 0

    func validate() throws {
        guard (0...Limits.queryWindowMsMax).contains(windowMs) else { throw ValidationError("--window-ms is \(windowMs); it must be from 0 to \(Limits.queryWindowMsMax)") }
    }

    func run() throws {
        var settings = try MemberSettings.querier(
            coordinator: options.coordinator, home: options.home, name: options.name, listen: options.listen, advertise: options.advertise,
            key: try options.key(), isInsecure: options.insecure)
        settings.queryWindowMs = windowMs
        let process = ServiceProcess(role: "querier", name: settings.name)
        let service = QuerierService(settings, catalog: .standard, beginThread: { EngineFingerprint.beginThread() }, report: { process.report($0) })
        process.live(parentHolds: options.parentHolds) { (end) async throws(AccrueError) in try await service.run { await end.requested() } }
    }
}
