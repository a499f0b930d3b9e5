import AccrueCore
import ArgumentParser

/// `accrue doctor`
struct DoctorCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "doctor", abstract: "Look at this machine, a home directory and its daemon, and say what is not as it should be.",
        discussion: """
            Nothing is changed. The exit code is 1 when something will not work.

            EXAMPLES
              accrue doctor
              accrue doctor --home /srv/accrue --json
            """)

    @Option(help: "The daemon's directory; else $ACCRUE_HOME, else ~/.accrue.") var home: String?
    @Flag(help: "One JSON line a finding: subject, state (ok, warning, problem), text, hint.") var json = false
    @OptionGroup var connection: ConnectOptions

    func run() async throws {
        let home = HomeDirectory.absolute(home ?? HomeDirectory.standard)
        var daemon = connection
        if daemon.connect == nil, self.home != nil { daemon.connect = HomeDirectory.control(home) }
        let findings = ProgramCheckup().findings() + HomeCheckup(home: home).findings() + KeyCheckup(home: home).findings() + (await DaemonCheckup(connection: daemon).findings())
        for finding in findings {
            if json {
                try Output.json(finding)
            } else {
                Output.line("\(finding.state.rawValue)  \(finding.subject): \(finding.text)")
                if let hint = finding.hint { Output.line("    next: \(hint)") }
            }
        }
        if findings.contains(where: { $0.state == .problem }) { throw ExitCode(1) }
    }
}
