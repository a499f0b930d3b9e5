import AccrueCore
import AccrueStore
import AccrueWire
import Foundation

/// The programs and libraries of this machine.
struct ProgramCheckup {
    func findings() -> [Finding] { [accrue, sockets, database, engine] }

    private var accrue: Finding { Finding("accrue", "\(Accrue.version), protocol \(Message.protocolVersion)") }

    private var sockets: Finding {
        guard SocketLibrary.hasCurve else {
            return Finding("libzmq", .warning, "\(SocketLibrary.version), without CURVE", hint: "connections between machines cannot be encrypted; install a libzmq with CURVE")
        }
        return Finding("libzmq", "\(SocketLibrary.version), with CURVE")
    }

    private var database: Finding {
        do throws(AccrueError) { return Finding("SQLite", try Store.sqliteVersion()) } catch { return Finding("SQLite", .problem, error.problem, hint: error.hint) }
    }

    private var engine: Finding {
        do throws(AccrueError) {
            let fingerprint = try EngineProgram.output(["fingerprint", "--json"])
            let fields = (try? JSONValue(parsing: fingerprint))?.object ?? [:]
            return Finding("engine", fields.sorted { $0.key < $1.key }.map { "\($0.key) \($0.value.string ?? $0.value.canonical)" }.joined(separator: ", "))
        } catch { return Finding("engine", .problem, error.problem, hint: error.hint) }
    }
}
