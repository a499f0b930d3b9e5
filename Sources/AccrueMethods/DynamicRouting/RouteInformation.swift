import AccrueCore
import AccrueTensor
import Foundation

/// What routes say of classes and of pictures, in nats.
enum RouteInformation {
    /// Σ p(a, b) log p(a, b) / p(a) p(b) of a table of counts.
    static func mutual(_ table: [[Double]]) -> Double {
        let rows = table.map { $0.reduce(0, +) }, total = rows.reduce(0, +)
        guard total > 0, let width = table.first?.count else { return 0 }
        let columns = (0..<width).map { column in table.reduce(0) { $0 + $1[column] } }
        var sum = 0.0
        for (row, counts) in table.enumerated() {
            for (column, count) in counts.enumerated() where count > 0 { sum += count / total * log(count * total / (rows[row] * columns[column])) }
        }
        return max(0, sum)
    }

    static func entropy(_ shares: [Double]) -> Double { -shares.reduce(0) { $1 > 0 ? $0 + $1 * log($1) : $0 } }

    /// H(mean of rows) − mean H(row): what choices and pictures have in common; 0: routes do not depend on the input.
    static func ofInputs(_ probabilities: [[Double]]) -> Double {
        guard let width = probabilities.first?.count else { return 0 }
        let n = Double(probabilities.count)
        let mean = (0..<width).map { column in probabilities.reduce(0) { $0 + $1[column] } / n }
        return max(0, entropy(mean) - probabilities.reduce(0) { $0 + entropy($1) } / n)
    }

    /// Of the step whose choice says most of the class: that mutual information, and the quantile of the same maximum over random orders of the labels.
    struct OfClasses {
        /// By step of the network.
        var steps: [Double]
        var largest: Double { steps.max() ?? 0 }
        /// The 99.9 % quantile.
        var quantile: Double
        var permutations: Int
    }

    /// - Parameters:
    ///   - chosen: by step of the network, a choice a row.
    ///   - choices: how many there are, at each step.
    static func ofClasses(_ chosen: [[Int]], choices: [Int], labels: [Int], classes: Int, permutations: Int, key: RandomKey) -> OfClasses {
        func informations(_ labels: [Int]) -> [Double] {
            zip(chosen, choices).map { ids, width in
                var flat = [Double](repeating: 0, count: classes * width)
                for (id, label) in zip(ids, labels) { flat[label * width + id] += 1 }
                return mutual((0..<classes).map { Array(flat[$0 * width..<($0 + 1) * width]) })
            }
        }
        var largest: [Double] = []
        for index in 0..<permutations {
            let order = key.folding("permutation").folding(index).permutation(labels.count)
            largest.append(informations(order.map { labels[$0] }).max() ?? 0)
        }
        largest.sort()
        let place = max(0, Int((0.999 * Double(permutations)).rounded(.up)) - 1)
        return OfClasses(steps: informations(labels), quantile: largest.isEmpty ? 0 : largest[place], permutations: permutations)
    }
}
