extension SymmetricMatrix {
    /// Eigenvalues, largest first, and their eigenvectors, by cyclic Jacobi rotations.
    ///
    /// Order and sign are fixed, so equal matrices give equal bytes: equal values keep the order of their columns, and a vector's largest component (the
    /// first of equals) is positive. Source: Golub & Van Loan, Matrix Computations, 8.5.
    public func eigen() -> (values: [Double], vectors: [[Double]]) {
        let n = size
        var a = elements
        // Row i is the i-th eigenvector.
        var v = SymmetricMatrix(diagonal: [Double](repeating: 1, count: n)).elements
        a.withUnsafeMutableBufferPointer { a in
            v.withUnsafeMutableBufferPointer { v in
                for _ in 0..<Self.sweepsMax where Self.sweep(a, v, n) == false { break }
            }
        }
        let order = (0..<n).sorted { a[$0 * n + $0] != a[$1 * n + $1] ? a[$0 * n + $0] > a[$1 * n + $1] : $0 < $1 }
        let vectors = order.map { index -> [Double] in
            let vector = Array(v[index * n..<(index + 1) * n])
            var top = 0
            for place in vector.indices where abs(vector[place]) > abs(vector[top]) { top = place }
            return vector.isEmpty || vector[top] >= 0 ? vector : vector.map { -$0 }
        }
        return (order.map { a[$0 * n + $0] }, vectors)
    }

    private static let sweepsMax = 60

    /// Rotates every pair of rows and columns once.
    /// - Returns: false when nothing off the diagonal was left to rotate.
    private static func sweep(_ a: UnsafeMutableBufferPointer<Double>, _ v: UnsafeMutableBufferPointer<Double>, _ n: Int) -> Bool {
        var rotated = false
        for p in 0..<n {
            for q in p + 1..<max(n, p + 1) {
                let off = a[p * n + q], left = a[p * n + p], right = a[q * n + q]
                guard abs(off) > 1e-16 * (abs(left) * abs(right)).squareRoot(), abs(off) > 1e-300 else { continue }
                rotated = true
                let theta = (right - left) / (2 * off)
                let t = (theta >= 0 ? 1.0 : -1.0) / (abs(theta) + (theta * theta + 1).squareRoot())
                let c = 1 / (t * t + 1).squareRoot(), s = t * c
                for k in 0..<n {
                    let x = a[p * n + k], y = a[q * n + k]
                    a[p * n + k] = c * x - s * y
                    a[q * n + k] = s * x + c * y
                    let f = v[p * n + k], g = v[q * n + k]
                    v[p * n + k] = c * f - s * g
                    v[q * n + k] = s * f + c * g
                }
                for k in 0..<n {
                    let x = a[k * n + p], y = a[k * n + q]
                    a[k * n + p] = c * x - s * y
                    a[k * n + q] = s * x + c * y
                }
            }
        }
        return rotated
    }
}
