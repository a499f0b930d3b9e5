import CTorch
import Foundation

/// What results depend on besides settings, seed and log: the numerical library, its BLAS with the core type, and the kernels in use.
///
/// Engines with equal fingerprints make equal bytes.
public struct EngineFingerprint: Codable, Equatable, Sendable {
    public var text: String

    /// Of this process.
    public static func current() -> EngineFingerprint {
        let text = ct_describe()
        defer { free(text) }
        return EngineFingerprint(text: String(cString: text))
    }

    /// Sets what the library keeps for each thread: one thread a fit, no recording of gradients. Call it once on every thread that computes.
    public static func beginThread() { ct_begin_thread() }
}
