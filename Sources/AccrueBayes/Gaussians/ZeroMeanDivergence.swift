public import AccrueCore
public import AccrueTensor

extension KullbackLeibler {
    /// KL of N(0, σ²) from N(0, σ₀²), element by element: ½ (r − 1 − log r), r = σ²/σ₀², nats. Variances count as at least 10⁻¹².
    public static func zeroMean(_ variance: Tensor, from prior: Tensor) throws(AccrueError) -> Tensor {
        // In d = log r, where r − 1 would cancel.
        let d = try (try variance + 1e-12).log() - (try (try prior + 1e-12).log())
        return try (try d.expm1() - d) * 0.5
    }
}
