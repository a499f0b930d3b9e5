public import AccrueCore
public import AccrueTensor
import Foundation

/// Expectations under N(0, 1) of even functions: Σ weight · f(z²), by Gauss and Hermite's rule of 64 nodes, exact for polynomials of degree 127.
///
/// Nodes are the eigenvalues of the Hermite polynomials' Jacobi matrix, weights the squares of their eigenvectors' first components (Golub & Welsch 1969).
/// Half the nodes suffice: the rule is symmetric.
public struct EvenNormalRule: Sendable {
    /// z² and weight of each of 32 nodes.
    public let nodes: [(square: Double, weight: Double)]

    public init() {
        let count = 64
        var jacobi = [Double](repeating: 0, count: count * count)
        for k in 1..<count {
            jacobi[k * count + k - 1] = Double(k).squareRoot()
            jacobi[(k - 1) * count + k] = Double(k).squareRoot()
        }
        let (values, vectors) = SymmetricMatrix(size: count, elements: jacobi).eigen()
        nodes = zip(values, vectors).prefix(count / 2).map { ($0 * $0, 2 * $1[0] * $1[0]) }
    }
}

extension KullbackLeibler {
    /// KL of N(0, σ²) from Student's t of ν degrees of freedom and unit scale, element by element, in nats: −½ log(2πe σ²) − E log St(w; ν).
    ///
    /// Source: the definition; the expectation by quadrature. A Student prior of variance networks: Neklyudov et al. 2019 (arXiv 1803.03764).
    /// Variances count as at least 10⁻¹².
    public static func zeroMean(_ variance: Tensor, fromStudent degrees: Double, rule: EvenNormalRule) throws(AccrueError) -> Tensor {
        let floored = try variance + 1e-12
        var spread: Tensor?
        for (square, weight) in rule.nodes {
            let slope: Double = square / degrees, share: Double = 0.5 * (degrees + 1) * weight
            let part = try (floored * slope).log1p() * share
            spread = try spread.map { (sum) throws(AccrueError) in try sum + part } ?? part
        }
        let normaliser: Double = lgamma((degrees + 1) / 2) - lgamma(degrees / 2) - 0.5 * log(degrees * Double.pi)
        let constant: Double = log(2 * Double.pi) + 1
        let entropy = try (try floored.log() + constant) * 0.5
        guard let spread else { preconditionFailure("a rule without nodes") }
        return try spread - entropy - normaliser
    }
}
