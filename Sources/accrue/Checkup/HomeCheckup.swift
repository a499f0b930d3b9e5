import AccrueCore
import AccrueStore
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

    private var states: [Finding] {
        guard let states = StateFiles.check(newest: Self.statesMax, in: "\(home)/states") else { return [] }
        guard states.damaged.isEmpty else {
            return states.damaged.map {
                Finding("states", .problem, "\($0) cannot be read, or is not what was written", hint: "restore the home directory from a backup, and look at the disk")
            }
        }
        return [Finding("states", states.read == 0 ? "none yet" : "the newest \(states.read) are as they were written")]
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
