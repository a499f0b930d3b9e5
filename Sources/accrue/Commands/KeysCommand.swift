import AccrueCoordinator
import AccrueCore
import AccrueWire
import ArgumentParser
import Foundation

/// `accrue keys …`
struct KeysCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "keys", abstract: "Who may connect to a daemon over TCP, and what they may do there.",
        discussion: """
            A daemon that listens on an address of the machine encrypts everything, and talks to holders of keys alone. A key has a role:
              producer  pushes rows, and sees what becomes of them
              reader    asks posteriors, and sees how things are
              worker    joins with 'accrue worker'
              admin     everything
            These commands change files in the daemon's home; a daemon that runs takes changes up within seconds.
            """,
        subcommands: [Init.self, Add.self, List.self, Revoke.self])

    /// The home whose keys are meant.
    struct Home: ParsableArguments {
        @Option(help: "The daemon's directory; else $ACCRUE_HOME, else ~/.accrue.") var home: String?

        var folder: KeyFolder { KeyFolder(home: HomeDirectory.absolute(home ?? HomeDirectory.standard)) }
    }

    /// `accrue keys init`
    struct Init: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Make the daemon's own keys, where they are missing.",
            discussion: """
                'accrue serve' does this too, when it listens with CURVE. Nothing that is there is changed.

                EXAMPLE
                  accrue keys init --home /srv/accrue
                """)

        @OptionGroup var options: Home
        @Flag(help: "Print JSON: serverKey, folder.") var json = false

        func run() throws {
            let server = try options.folder.prepare()
            if json { return try Output.json(["serverKey": server.text, "folder": options.folder.path]) }
            Output.line("keys are in \(options.folder.path); the server's public key is \(server)")
        }
    }

    /// `accrue keys add NAME`
    struct Add: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Make a key file to hand out, and let its holder in.",
            discussion: """
                The file holds a secret that is kept nowhere else: give it to its holder over a safe way, and keep no copy.

                EXAMPLES
                  accrue keys add line-3 --role producer --home /srv/accrue
                  accrue keys add worker-7 --role worker --out /media/stick/worker-7.key
                """)

        @Argument(help: "Whose it is: 1 to 64 of letters, digits, '-', '_' and '.'.") var name: String
        @Option(
            help: "What its holder may do: producer, worker, reader or admin.",
            transform: { text in
                guard let role = KeyRole(rawValue: text) else { throw ValidationError("'\(text)' is not producer, worker, reader or admin") }
                return role
            }) var role: KeyRole
        @Option(help: "Where to write the file; else NAME.key here.") var out: String?
        @OptionGroup var options: Home
        @Flag(help: "Print JSON: name, role, publicKey, file.") var json = false

        func run() throws {
            let path = out ?? "\(name).key"
            let key = try options.folder.add(name, role: role, writingTo: path)
            if json { return try Output.json(["name": name, "role": role.rawValue, "publicKey": key.pair.publicKey.text, "file": path]) }
            Output.line("\(path) is a key of role \(role.rawValue); its holder says --key-file \(path), or ACCRUE_KEY=\(path)")
        }
    }

    /// `accrue keys list`
    struct List: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "List the keys that may connect.",
            discussion: """
                EXAMPLE
                  accrue keys list --home /srv/accrue
                """)

        @OptionGroup var options: Home
        @Flag(help: "One JSON line a key: name, role, publicKey.") var json = false

        func run() throws {
            _ = try options.folder.server()
            var table = TextTable("name", "role", "public key")
            for key in try options.folder.authorised() {
                if json { try Output.json(key) } else { table.add(key.name, key.role.rawValue, key.publicKey.text) }
            }
            if !json { table.lines.forEach(Output.line) }
        }
    }

    /// `accrue keys revoke NAME`
    struct Revoke: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Let the holder of a key in no more.",
            discussion: """
                A daemon that runs refuses its next message within seconds, also on connections that are open. 'owner' and 'children' are the daemon's own
                keys: its next start makes them anew.

                EXAMPLE
                  accrue keys revoke line-3 --home /srv/accrue
                """)

        @Argument(help: "The key's name.") var name: String
        @OptionGroup var options: Home
        @Flag(help: "Print JSON: name, role, publicKey.") var json = false

        func run() throws {
            let key = try options.folder.revoke(name)
            if json { return try Output.json(key) }
            Output.line("key '\(name)' of role \(key.role.rawValue) is revoked")
        }
    }
}
