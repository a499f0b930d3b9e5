import AccrueCore
import AccrueHTTP
import ArgumentParser
import Foundation

/// `accrue serve`
struct ServeCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "serve", abstract: "Run a daemon: a coordinator, workers and a querier.",
        discussion: """
            One line on standard output says when everything has joined. SIGTERM or Ctrl-C ends it within 10 seconds; what was acknowledged is on
            disk, and the next start goes on where this one ended. Processes that die are started again.

            EXAMPLES
              accrue serve --home /srv/accrue --workers 4
              accrue serve --home /srv/accrue --workers 4 --listen tcp://10.0.0.1:7700
              accrue serve --home /srv/accrue --workers 2 --listen tcp://127.0.0.1:7700 --json
              accrue serve --home /srv/accrue --workers 2 --http 127.0.0.1:7780
            """)

    @Option(help: "The daemon's directory; else $ACCRUE_HOME, else ~/.accrue.") var home: String?
    @Option(help: "Worker processes; else one a processor. 0: workers join from elsewhere.") var workers: Int?
    @Option(help: ArgumentHelp("Listen here too, not only on sockets in the home; port * takes any.", valueName: "tcp://host:port")) var listen: String?
    @Flag(help: "Encrypt, and let in holders of keys alone ('accrue keys'), also on loopback; other addresses always do, but for --insecure.") var curve = false
    @Flag(help: "Allow --listen on an address that other machines reach, without encryption or keys: everyone there may do everything.") var insecure = false
    @Option(help: "Milliseconds that a query waits for others that ask the same of other rows, to be answered in one pass with them; 0: those alone that wait anyway.")
    var queryWindowMs = 0
    @Option(help: ArgumentHelp("Serve JSON over HTTP here too; port * takes any. Beyond this machine it needs a token.", valueName: "host:port")) var http: String?
    @Option(help: "A file of mode 600 with the token that HTTP requests must bear.") var httpTokenFile: String?
    @Flag(help: "Print the line as JSON: control, bulk, events, ingest, query, http, pid, workers, querier.") var json = false

    func validate() throws {
        guard (0...Limits.queryWindowMsMax).contains(queryWindowMs) else {
            throw ValidationError("--query-window-ms is \(queryWindowMs); it must be from 0 to \(Limits.queryWindowMsMax)")
        }
        if httpTokenFile != nil, http == nil { throw ValidationError("--http-token-file needs --http") }
        if curve, insecure || listen == nil { throw ValidationError("--curve needs --listen, and not --insecure") }
        if let workers, !(0...ServeSettings.workersMax).contains(workers) { throw ValidationError("--workers must be from 0 to \(ServeSettings.workersMax)") }
    }

    func run() async throws {
        let count = workers ?? min(ProcessInfo.processInfo.activeProcessorCount, ServeSettings.workersMax)
        let http = try http.map { address throws(AccrueError) in try HTTPSettings(address: address, tokenFile: httpTokenFile) }
        let settings = try ServeSettings(
            home: home ?? HomeDirectory.standard, workers: count, listen: listen, isCurve: curve, isInsecure: insecure, queryWindowMs: queryWindowMs, http: http)
        let json = json
        let daemon = Daemon(settings: settings, engine: try EngineProgram.path()) { ready in
            if json {
                if let text = try? JSONValue(encoding: ready).canonical { Output.line(text) }
            } else {
                Output.line("serving \(settings.home) at \(ready.control), process \(ready.pid); \(ready.workers.count) workers and a querier have joined\(ready.http.map { "; HTTP at \($0)" } ?? "")")
            }
        } report: { text in
            Output.note("accrue serve: \(text)")
        }
        try await daemon.run()
    }
}
