public import AccrueCore
import CTorch

/// The instruction sets that the fused kernels are compiled for.
///
/// Random numbers are the same bits on all of them; other results differ by rounding, which is why the choice is part of the engine's fingerprint.
public enum FusedKernels: Int32, CaseIterable, Sendable {
    /// The plain operations of the library: slow, and what the kernels are checked against.
    case reference
    case baseline
    case avx2
    case avx512
    /// The widest that the processor has: how every thread starts.
    case widest

    /// Makes this the calling thread's choice.
    /// - Throws: `unavailable` when the processor has no such instructions.
    public static func use(_ level: FusedKernels) throws(AccrueError) {
        guard ct_use_kernels(level.rawValue) == 0 else {
            throw AccrueError(.unavailable, while: "choosing the kernels", "this processor cannot run '\(level)'", hint: "use 'widest'")
        }
    }
}
