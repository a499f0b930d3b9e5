import CTorch
import Foundation

/// What results depend on besides settings, seed and log: the numerical library, its BLAS with the core type, and the kernels in use.
///
/// Engines with equal fingerprints make equal bytes.
public struct EngineFingerprint: Codable, Equatable, Sendable {
    public var libtorch: String
    /// The vector instructions that libtorch's own kernels use.
    public var cpuCapability: String
    /// The BLAS's description of itself; empty when it gives none.
    public var blas: String
    /// The processor type that the BLAS chose its kernels for.
    public var blasCore: String
    public var oneDNN: Bool
    /// The instruction set of the fused kernels in use.
    public var kernels: String
    /// Threads that one computation uses: libtorch's, and the BLAS's.
    public var threads: Int
    public var blasThreads: Int

    /// Of this process, for computations on the calling thread.
    public static func current() -> EngineFingerprint {
        func text(_ field: ct_fact) -> String {
            guard let text = ct_describe(field) else { return "" }
            defer { free(text) }
            return String(cString: text)
        }
        return EngineFingerprint(
            libtorch: text(CT_VERSION), cpuCapability: text(CT_CPU_CAPABILITY), blas: text(CT_BLAS), blasCore: text(CT_BLAS_CORE),
            oneDNN: text(CT_ONEDNN) == "yes", kernels: String(cString: ct_kernels()), threads: Int(text(CT_THREADS)) ?? 0, blasThreads: Int(text(CT_BLAS_THREADS)) ?? 0)
    }

    /// Sets what the library keeps for each thread: one thread a fit, no recording of gradients. Call it once on every thread that computes.
    public static func beginThread() { ct_begin_thread() }
}

extension EngineFingerprint: CustomStringConvertible {
    public var description: String {
        let core = blasCore.isEmpty ? "" : ", core type \(blasCore)"
        return "libtorch \(libtorch), CPU capability \(cpuCapability), BLAS \(blas.isEmpty ? "unknown" : blas)\(core), oneDNN \(oneDNN ? "yes" : "no"), kernels \(kernels), "
            + "threads \(threads), BLAS threads \(blasThreads)"
    }
}
