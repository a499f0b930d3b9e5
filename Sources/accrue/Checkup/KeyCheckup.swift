import AccrueCoordinator
import AccrueCore
import AccrueWire
import Foundation

/// The keys of a home: whether they are whole, and whether others can read the secret ones.
struct KeyCheckup {
    let home: String

    func findings() -> [Finding] {
        let folder = KeyFolder(home: home)
        guard FileManager.default.fileExists(atPath: folder.path) else {
            return [Finding("keys", "none: only local users and this machine's loopback are served")]
        }
        return [list(folder), whole("server key") { () throws(AccrueError) in _ = try folder.server() }]
            + [KeyFolder.ownerName, KeyFolder.childrenName].map { name in
                whole("key '\(name)'") { () throws(AccrueError) in _ = try ClientKey(file: folder.file(of: name)) }
            }
    }

    private func list(_ folder: KeyFolder) -> Finding {
        do throws(AccrueError) {
            let keys = try folder.authorised()
            let roles = KeyRole.allCases.map { role in "\(keys.count { $0.role == role }) \(role.rawValue)" }
            return Finding("keys", "\(keys.count) are authorised: \(roles.joined(separator: ", "))")
        } catch { return finding("keys", error) }
    }

    private func whole(_ subject: String, _ read: () throws(AccrueError) -> Void) -> Finding {
        do throws(AccrueError) {
            try read()
            return Finding(subject, "is whole, for its owner alone")
        } catch { return finding(subject, error) }
    }

    private func finding(_ subject: String, _ error: AccrueError) -> Finding {
        // What is missing is made at the next start; what is damaged or open to others is not mended by itself.
        Finding(subject, error.code == .notFound ? .warning : .problem, error.problem, hint: error.code == .notFound ? "'accrue keys init' makes it" : error.hint)
    }
}
