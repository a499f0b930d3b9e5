import AccrueCore
import AccrueWire
import Foundation
import Glibc
import Synchronization

/// Keeps a key ring as the daemon's list of authorised keys says, whoever changes that.
final class KeyWatch: Sendable {
    /// How often the list is looked at.
    static let everyMs = 250

    /// Tells one content of a file from another without reading it.
    private struct Stamp: Equatable {
        var inode: UInt
        var size: Int
        var seconds: Int
        var nanoseconds: Int
    }

    private let folder: KeyFolder
    private let ring: KeyRing
    private let report: @Sendable (String) -> Void
    private let changed: @Sendable ([AuthorisedKey]) -> Void
    private let threads = WorkThreads("keys")
    private let last: Mutex<Stamp?>

    /// - Parameter changed: told the keys whenever they are others.
    init(_ folder: KeyFolder, _ ring: KeyRing, report: @escaping @Sendable (String) -> Void, changed: @escaping @Sendable ([AuthorisedKey]) -> Void) {
        self.folder = folder
        self.ring = ring
        self.report = report
        self.changed = changed
        last = Mutex(nil)
    }

    /// Looks whether the list was changed; returns at once.
    func look() {
        guard threads.waiting == 0 else { return }
        threads.submit { [weak self] in self?.read() }
    }

    private func read() {
        let stamp = Self.stamp(of: folder.authorisedFile)
        guard last.withLock({ last in
            defer { last = stamp }
            return last != stamp || stamp == nil
        }) else { return }
        var keys: [AuthorisedKey] = [], problems: [String] = []
        // What cannot be read lets nobody in: a key that was revoked must not live on behind a damaged line.
        do throws(AccrueError) { (keys, problems) = try folder.lines() } catch { problems = [error.problem] }
        guard ring.hash != AuthorisedKey.hash(of: keys) else { return }
        for problem in problems { report("\(folder.authorisedFile): \(problem); it lets nobody in") }
        report("\(keys.count) keys are authorised now")
        ring.replace(keys)
        changed(keys)
    }

    private static func stamp(of path: String) -> Stamp? {
        var information = stat()
        guard stat(path, &information) == 0 else { return nil }
        return Stamp(
            inode: UInt(information.st_ino), size: Int(information.st_size), seconds: information.st_mtim.tv_sec, nanoseconds: information.st_mtim.tv_nsec)
    }
}
