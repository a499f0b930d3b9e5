public import Foundation
import Glibc

/// A small file that only its owner may read. It is written aside, synced and renamed, so that whoever reads it finds all of the old or all of the new.
public enum SecretFile {
    /// - Parameter replacing: whether a file of this name may be there already.
    /// - Throws: `conflict` when it may not and is; `unavailable` when the file cannot be written.
    public static func write(_ bytes: Data, to path: String, replacing: Bool, while operation: String) throws(AccrueError) {
        func check(_ isGood: Bool) throws(AccrueError) {
            if !isGood { throw AccrueError(.unavailable, while: operation, "\(path): \(String(cString: strerror(errno)))", hint: "check that its directory exists and can be written") }
        }
        let aside = "\(path).\(getpid()).aside"
        unlink(aside)
        let file = open(aside, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0o600)
        try check(file >= 0)
        defer { unlink(aside) }
        let written = bytes.withUnsafeBytes { Glibc.write(file, $0.baseAddress, $0.count) }
        let isSynced = written == bytes.count && fsync(file) == 0
        try check(close(file) == 0 && isSynced)
        if replacing { try check(rename(aside, path) == 0) } else if link(aside, path) != 0 {
            guard errno == EEXIST else { return try check(false) }
            throw AccrueError(.conflict, while: operation, "\(path) is there already", hint: "name another file, or move that one away")
        }
        let folder = open((path as NSString).deletingLastPathComponent.isEmpty ? "." : (path as NSString).deletingLastPathComponent, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        try check(folder >= 0)
        defer { close(folder) }
        try check(fsync(folder) == 0)
    }

    /// - Throws: `notFound` when there is no such file, `unauthorised` when others could have read it or it is another user's.
    public static func read(_ path: String, while operation: String) throws(AccrueError) -> Data {
        let file = open(path, O_RDONLY | O_CLOEXEC)
        guard file >= 0 else { throw AccrueError(.notFound, while: operation, "\(path): \(String(cString: strerror(errno)))", hint: "check the path") }
        defer { close(file) }
        var information = stat()
        guard fstat(file, &information) == 0, information.st_mode & S_IFMT == S_IFREG, information.st_size <= bytesMax else {
            throw AccrueError(.corrupt, while: operation, "\(path) is not a file of keys", hint: "check the path")
        }
        guard information.st_mode & 0o077 == 0 else {
            let mode = String(information.st_mode & 0o777, radix: 8)
            throw AccrueError(.unauthorised, while: operation, "\(path) has mode \(mode): other users can read the secret in it", hint: "chmod 600 \(path)")
        }
        return FileHandle(fileDescriptor: file, closeOnDealloc: false).allBytes()
    }

    private static let bytesMax = 16 << 20
}
