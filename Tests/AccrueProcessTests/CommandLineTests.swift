import Foundation
import Testing

@Suite("The command line itself")
struct CommandLineTests {
    @Test("no command loads libtorch, which would take it half a second and 150 MB")
    func light() async throws {
        let libraries = try await Program.run("/usr/bin/ldd", [Program.path("accrue")])
        #expect(libraries.status == 0 && libraries.output.contains("libzmq"))
        for heavy in ["libtorch", "libc10", "blas"] { #expect(!libraries.output.contains(heavy), "\(heavy)") }
    }

    @Test("every command has an example in its help")
    func examples() async throws {
        func check(_ path: [String]) async throws {
            let help = try await Program.run("accrue", path + ["--help"]).output
            let subcommands = Self.subcommands(help)
            if subcommands.isEmpty { return #expect(help.contains("EXAMPLE"), "\(path)") }
            for subcommand in subcommands { try await check(path + [subcommand]) }
        }
        #expect(Self.subcommands(try await Program.run("accrue", ["--help"]).output).count >= 12)
        try await check([])
    }

    private static func subcommands(_ help: String) -> [String] {
        guard let list = help.range(of: "SUBCOMMANDS:\n") else { return [] }
        let lines = help[list.upperBound...].split(separator: "\n", omittingEmptySubsequences: false).prefix { !$0.isEmpty }
        return lines.filter { $0.hasPrefix("  ") && !$0.hasPrefix("   ") }.compactMap { $0.split(separator: " ").first.map(String.init) }
    }

    @Test("a command line that is wrong ends with code 64")
    func usage() async throws {
        for arguments in [["nonsense"], ["push"], ["push", "x", "--window", "0"], ["chunks", "list", "x", "--state", "lost"], ["serve", "--workers", "-1"]] {
            #expect(try await Program.run("accrue", arguments).status == 64, "\(arguments)")
        }
    }
}
