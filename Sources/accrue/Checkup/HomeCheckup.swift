import AccrueCore
import Foundation
import Glibc

/// A daemon's home directory: who may read it, how much room it has, whether its states are what they were, who uses it.
struct HomeCheckup {
    private static let roomMin = 100 << 20, roomSound = 1 << 30
    /// States that are read, the newest.
    private static let statesMax = 32

    let home: String

    func findings() -> [Finding] {
        guard FileManager.default.fileExists(atPath: home) else {
            return [Finding("home", .warning, "\(home) is not there yet", hint: "'accrue serve' makes it")]
        }
        return [permissions, room] + states + locks
    }

    private var permissions: Finding {
        var information = stat()
        guard stat(home, &information) == 0, access(home, R_OK | W_OK | X_OK) == 0 else {
            return Finding("home", .problem, "\(home) cannot be written by this user", hint: "run as its owner, or choose another home")
        }
        guard information.st_mode & 0o077 == 0 else {
            let mode = String(information.st_mode & 0o777, radix: 8)
            return Finding("home", .warning, "\(home) has mode \(mode): other users can look into it", hint: "chmod 700 \(home)")
        }
        return Finding("home", "\(home), for its owner alone")
    }

    private var room: Finding {
        var information = statvfs()
        guard statvfs(home, &information) == 0 else { return Finding("disk", .problem, String(cString: strerror(errno)), hint: "check the file system of \(home)") }
        let free = Int(information.f_bavail) * Int(information.f_frsize)
        let text = "\(free >> 20) MiB free"
        if free < Self.roomMin { return Finding("disk", .problem, text, hint: "make room: a daemon that cannot write stops") }
        return free < Self.roomSound ? Finding("disk", .warning, text, hint: "make room soon") : Finding("disk", text)
    }

    /// A state's file is named after the hash of its content.
    private var states: [Finding] {
        let folder = URL(fileURLWithPath: "\(home)/states")
        guard let files = try? FileManager.default.contentsOfDirectory(at: folder, includingPropertiesForKeys: [.contentModificationDateKey]) else { return [] }
        func age(_ file: URL) -> Date { (try? file.resourceValues(forKeys: [.contentModificationDateKey]).contentModificationDate) ?? .distantPast }
        let newest = files.filter { $0.pathExtension == "safetensors" }.map { (file: $0, age: age($0)) }.sorted { $0.age > $1.age }.prefix(Self.statesMax)
        let damaged = newest.filter { state in
            guard let bytes = try? Data(contentsOf: state.file, options: .alwaysMapped) else { return true }
            return ContentHash(of: bytes).hex != state.file.deletingPathExtension().lastPathComponent
        }
        guard damaged.isEmpty else {
            return damaged.map {
                Finding("states", .problem, "\($0.file.path) cannot be read, or is not what was written", hint: "restore the home directory from a backup, and look at the disk")
            }
        }
        return [Finding("states", newest.isEmpty ? "none yet" : "the newest \(newest.count) are as they were written")]
    }

    /// One a directory that a process may hold.
    private var locks: [Finding] {
        let workers = (try? FileManager.default.contentsOfDirectory(atPath: "\(home)/workers"))?.sorted() ?? []
        let places = [("coordinator", home, "lock")] + workers.map { ($0, "\(home)/workers/\($0)", "lock") } + [("querier", "\(home)/querier", "querier.lock")]
        return places.map { name, folder, file in
            let holder = HomeLock.holder(home: folder, name: file)
            return Finding("lock of \(name)", holder.map { "held by process \($0.isEmpty ? "?" : $0)" } ?? "free")
        }
    }
}
