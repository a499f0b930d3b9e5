public import AccrueCore
public import Foundation

/// States on disk, named by their content: `<sha256>.safetensors`.
///
/// A file is written aside, synced, renamed, and its directory synced, so a name that exists always holds its whole content. A failed sync is never
/// retried: the error is thrown and the process that gets it must end, because what the disk holds is then unknown.
public struct StateFiles: Sendable {
    private let directory: String

    /// Opens (and makes) the directory, deleting what an earlier process left aside.
    /// - Throws: `unavailable` when the directory cannot be made or read.
    public init(directory: String) throws(AccrueError) {
        self.directory = directory
        do {
            try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
            for name in try FileManager.default.contentsOfDirectory(atPath: directory) where name.hasSuffix(".aside") {
                try FileManager.default.removeItem(atPath: "\(directory)/\(name)")
            }
        } catch { throw Self.failure("opening the state directory \(directory)", error.reason) }
    }

    /// Makes bytes durable under their hash. Putting the same bytes again does nothing.
    /// - Throws: `unavailable` when writing or syncing fails; the process must end then.
    public func put(_ bytes: Data) throws(AccrueError) -> ContentHash {
        let hash = ContentHash(of: bytes)
        let path = path(hash)
        if FileManager.default.fileExists(atPath: path) { return hash }
        let operation = "writing state \(hash.short) to \(directory)"
        let aside = "\(directory)/\(hash.hex).\(getpid()).aside"
        let file = open(aside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
        guard file >= 0 else { throw Self.failure(operation, Self.reason(errno)) }
        let written = Self.write(bytes, to: file)
        guard written == 0, fsync(file) == 0 else {
            let reason = Self.reason(written == 0 ? errno : written)
            close(file)
            unlink(aside)
            throw Self.failure(operation, reason)
        }
        guard close(file) == 0, rename(aside, path) == 0 else { throw Self.failure(operation, Self.reason(errno)) }
        try syncDirectory(while: operation)
        return hash
    }

    /// The bytes of a state, mapped.
    /// - Throws: `corrupt` when the file is missing or its content does not have its name's hash.
    public func read(_ hash: ContentHash) throws(AccrueError) -> Data {
        guard let bytes = try? Data(contentsOf: URL(fileURLWithPath: path(hash)), options: .alwaysMapped) else {
            throw AccrueError(.corrupt, while: "reading state \(hash.short)", "there is no readable file \(path(hash))", hint: "restore the home directory from a backup")
        }
        guard ContentHash(of: bytes) == hash else {
            throw AccrueError(.corrupt, while: "reading state \(hash.short)", "the content of \(path(hash)) does not have its hash", hint: "restore the home directory from a backup")
        }
        return bytes
    }

    /// Reads the newest states of a directory, which need not be opened, and changes nothing there.
    ///
    /// - Returns: how many were read, and the paths of those that cannot be read or do not have their name's hash; nil where there is no such directory.
    public static func check(newest count: Int, in directory: String) -> (read: Int, damaged: [String])? {
        let folder = URL(fileURLWithPath: directory)
        guard let files = try? FileManager.default.contentsOfDirectory(at: folder, includingPropertiesForKeys: [.contentModificationDateKey]) else { return nil }
        func age(_ file: URL) -> Date { (try? file.resourceValues(forKeys: [.contentModificationDateKey]).contentModificationDate) ?? .distantPast }
        let states = files.filter { $0.lastPathComponent.hasSuffix(ending) }.map { (file: $0, age: age($0)) }.sorted { $0.age > $1.age }.prefix(count)
        let damaged = states.filter { state in
            guard let bytes = try? Data(contentsOf: state.file, options: .alwaysMapped) else { return true }
            return ContentHash(of: bytes) != hash(ofFile: state.file.lastPathComponent)
        }
        return (states.count, damaged.map(\.file.path))
    }

    public func exists(_ hash: ContentHash) -> Bool { FileManager.default.fileExists(atPath: path(hash)) }

    /// Deletes every state that is not in `kept`; returns how many.
    /// - Throws: `unavailable` when the directory cannot be read.
    public func deleteAll(except kept: Set<ContentHash>) throws(AccrueError) -> Int {
        var deleted = 0
        do {
            for name in try FileManager.default.contentsOfDirectory(atPath: directory).sorted() where name.hasSuffix(Self.ending) {
                guard let hash = Self.hash(ofFile: name), !kept.contains(hash) else { continue }
                try FileManager.default.removeItem(atPath: "\(directory)/\(name)")
                deleted += 1
            }
        } catch { throw Self.failure("deleting states that no version needs in \(directory)", error.reason) }
        return deleted
    }

    private static let ending = ".safetensors"
    private static func hash(ofFile name: String) -> ContentHash? { ContentHash(hex: String(name.dropLast(ending.count))) }
    private func path(_ hash: ContentHash) -> String { "\(directory)/\(hash.hex)\(Self.ending)" }

    private func syncDirectory(while operation: String) throws(AccrueError) {
        let handle = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard handle >= 0 else { throw Self.failure(operation, Self.reason(errno)) }
        defer { close(handle) }
        guard fsync(handle) == 0 else { throw Self.failure(operation, Self.reason(errno)) }
    }

    /// Writes everything; returns 0 or the error number.
    private static func write(_ bytes: Data, to file: Int32) -> Int32 {
        bytes.withUnsafeBytes { buffer in
            var offset = 0
            while offset < buffer.count {
                let count = Foundation.write(file, buffer.baseAddress?.advanced(by: offset), buffer.count - offset)
                if count < 0 {
                    if errno == EINTR { continue }
                    return errno
                }
                offset += count
            }
            return 0
        }
    }

    private static func reason(_ number: Int32) -> String { String(cString: strerror(number)) }

    private static func failure(_ operation: String, _ problem: String) -> AccrueError {
        AccrueError(.unavailable, while: operation, problem, hint: "check free space and permissions, then start again: nothing acknowledged is lost")
    }
}
