public import AccrueCore

/// A small dense symmetric positive-definite matrix in Float64, row by row, and what posterior algebra asks of it.
public struct SymmetricMatrix: Equatable, Sendable {
    public let size: Int
    /// `size * size` elements, row by row; both triangles are kept.
    public var elements: [Double]

    public init(size: Int, elements: [Double]) {
        precondition(elements.count == size * size, "a symmetric matrix of size \(size) has \(size * size) elements, not \(elements.count)")
        self.size = size
        self.elements = elements
    }

    public init(diagonal: [Double]) {
        self.init(size: diagonal.count, elements: [Double](repeating: 0, count: diagonal.count * diagonal.count))
        for (index, value) in diagonal.enumerated() { self[index, index] = value }
    }

    public subscript(row: Int, column: Int) -> Double {
        get { elements[row * size + column] }
        set { elements[row * size + column] = newValue }
    }

    public var diagonal: [Double] { (0..<size).map { self[$0, $0] } }

    /// The matrix times a vector of `size` numbers.
    public func times(_ vector: [Double]) -> [Double] {
        (0..<size).map { row in (0..<size).reduce(0) { $0 + self[row, $1] * vector[$1] } }
    }

    /// The lower Cholesky factor.
    /// - Throws: `diverged` when the matrix is not positive definite, naming the pivot.
    public func cholesky(while operation: String) throws(AccrueError) -> CholeskyFactor {
        var factor = [Double](repeating: 0, count: size * size)
        for row in 0..<size {
            for column in 0...row {
                var sum = self[row, column]
                for inner in 0..<column { sum -= factor[row * size + inner] * factor[column * size + inner] }
                if row == column {
                    guard sum > 0, sum.isFinite else {
                        throw AccrueError(
                            .diverged, while: operation, "the precision is not positive definite: pivot \(row) is \(sum)",
                            hint: "use a larger prior precision, or scale the inputs")
                    }
                    factor[row * size + row] = sum.squareRoot()
                } else {
                    factor[row * size + column] = sum / factor[column * size + column]
                }
            }
        }
        return CholeskyFactor(size: size, lower: factor)
    }
}

/// The lower factor L of a matrix A = L Lᵀ.
public struct CholeskyFactor: Sendable {
    let size: Int
    let lower: [Double]

    /// The solution x of A x = b.
    public func solve(_ vector: [Double]) -> [Double] {
        var x = vector
        for row in 0..<size {
            for inner in 0..<row { x[row] -= lower[row * size + inner] * x[inner] }
            x[row] /= lower[row * size + row]
        }
        for row in (0..<size).reversed() {
            for inner in (row + 1)..<max(size, row + 1) { x[row] -= lower[inner * size + row] * x[inner] }
            x[row] /= lower[row * size + row]
        }
        return x
    }

    /// log |A|.
    public var logDeterminant: Double { (0..<size).reduce(0) { $0 + 2 * logarithm(lower[$1 * size + $1]) } }

    /// A⁻¹.
    public var inverse: SymmetricMatrix {
        var result = SymmetricMatrix(size: size, elements: [Double](repeating: 0, count: size * size))
        for column in 0..<size {
            var unit = [Double](repeating: 0, count: size)
            unit[column] = 1
            for (row, value) in solve(unit).enumerated() { result[row, column] = value }
        }
        return result
    }
}
