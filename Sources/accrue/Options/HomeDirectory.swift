import Foundation

/// Where a daemon keeps what is its own.
enum HomeDirectory {
    /// `$ACCRUE_HOME`, else `~/.accrue`.
    static var standard: String { ProcessInfo.processInfo.environment["ACCRUE_HOME"].flatMap { $0.isEmpty ? nil : $0 } ?? "\(NSHomeDirectory())/.accrue" }

    /// Without dots and relative parts: others are told paths under it, and they may stand in another directory.
    static func absolute(_ home: String) -> String { URL(fileURLWithPath: home).standardizedFileURL.path }

    /// The control endpoint of the daemon of a home.
    static func control(_ home: String) -> String { "ipc://\(absolute(home))\(controlSuffix)" }

    /// The home whose control endpoint it is, if it is one.
    static func home(ofControl endpoint: String) -> String? {
        guard endpoint.hasPrefix("ipc://"), endpoint.hasSuffix(controlSuffix) else { return nil }
        return String(endpoint.dropFirst("ipc://".count).dropLast(controlSuffix.count))
    }

    private static let controlSuffix = "/run/control.sock"
}
