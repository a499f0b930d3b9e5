import Foundation

/// The lock of a home directory: one process at a time. The kernel drops it when the process dies, however it dies.
public final class HomeLock: Sendable {
    private let file: Int32

    /// - Throws: `conflict` when another process holds it, naming its process id; `unavailable` when the file cannot be made.
    public init(home: String, name: String = "lock") throws(AccrueError) {
        let path = "\(home)/\(name)"
        let operation = "locking \(path)"
        do { try FileManager.default.createDirectory(atPath: home, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700]) } catch {
            throw AccrueError(.unavailable, while: operation, error.reason, hint: "choose a home directory that can be written")
        }
        let file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        guard file >= 0 else { throw AccrueError(.unavailable, while: operation, String(cString: strerror(errno)), hint: "choose a home directory that can be written") }
        guard flock(file, LOCK_EX | LOCK_NB) == 0 else {
            let holder = (try? String(contentsOfFile: path, encoding: .utf8))?.trimmingCharacters(in: .whitespacesAndNewlines) ?? ""
            close(file)
            throw AccrueError(
                .conflict, while: operation, "process \(holder.isEmpty ? "?" : holder) uses this home directory",
                hint: "stop it first, or choose another --home")
        }
        ftruncate(file, 0)
        let holder = Array("\(getpid())\n".utf8)
        pwrite(file, holder, holder.count, 0)
        self.file = file
    }

    deinit { close(file) }

    /// The process id in a lock file that some process holds, nil when none does. Asked of the kernel's list, so that asking never is in the way of
    /// who wants the lock.
    public static func holder(home: String, name: String = "lock") -> String? {
        let path = "\(home)/\(name)"
        var information = stat()
        // Read as a stream: the file claims to be empty, and more than a page of it would be cut off otherwise.
        guard stat(path, &information) == 0, let list = try? FileHandle(forReadingAtPath: "/proc/locks")?.readToEnd() else { return nil }
        let isHeld = String(decoding: list, as: UTF8.self).split(separator: "\n").contains { line in
            line.split(separator: " ").contains("FLOCK") && line.split(separator: " ").contains { $0.hasSuffix(":\(information.st_ino)") }
        }
        guard isHeld else { return nil }
        return (try? String(contentsOfFile: path, encoding: .utf8))?.trimmingCharacters(in: .whitespacesAndNewlines) ?? ""
    }
}
