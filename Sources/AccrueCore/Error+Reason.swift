import Foundation
import Glibc

extension Error {
    /// What is wrong, in the system's words where Foundation wraps them: "No such file or directory".
    public var reason: String {
        guard let system = (self as NSError).userInfo[NSUnderlyingErrorKey] as? NSError, system.domain == NSPOSIXErrorDomain else { return "\(self)" }
        return String(cString: strerror(Int32(clamping: system.code)))
    }
}
