import ArgumentParser

/// `accrue doctor`
struct DoctorCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(commandName: "doctor", abstract: "Check this machine and a home directory.")
    func run() async throws {}
}
