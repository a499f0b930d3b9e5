import Foundation
import Glibc

extension Error {
    /// What is wrong, in the system's words where Foundation wraps them: "No such file or directory".
    public var reason: String {
        guard let system = (self as? CocoaError)?.underlying as? POSIXError else { return "\(self)" }
        return String(cString: strerror(system.code.rawValue))
    }
}
