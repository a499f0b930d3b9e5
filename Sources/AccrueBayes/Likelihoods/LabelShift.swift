public import AccrueCore
public import AccrueTensor

/// Classes in proportions that differ from part to part, while what a class looks like stays: p(x | y) is the stream's, p(y) the part's.
///
/// A network's logits f then stand for balanced classes, and rows in which class c has the share π_c are learned as softmax(f + log Kπ), K classes: a part of
/// two classes says how these two are told apart, and little against those that it lacks. Predictions are softmax(f + log Kπ) with the shares of all rows so far.
/// Source of the adjusted loss: Menon, Jayasumana, Rawat, Jain, Veit & Kumar, "Long-tail learning via logit adjustment" (ICLR 2021, arXiv 2007.07314), there for
/// one set of unequal classes; the use over parts and shards is this project's.
public enum LabelShift {
    /// Rows of each class; class numbers are those of the schema.
    public static func counts(_ targets: Tensor, classes: Int) throws(AccrueError) -> [Double] {
        var counts = [Double](repeating: 0, count: classes)
        for target in try targets.doubles() { counts[Int(target)] += 1 }
        return counts
    }

    /// log Kπ with half a row added to every class (the estimate of Krichevsky and Trofimov); zero where all have equally many.
    public static func logShares(_ counts: [Double]) -> [Double] {
        let total = counts.reduce(0) { $0 + $1 + 0.5 }
        return counts.map { logarithm(Double(counts.count) * ($0 + 0.5) / total) }
    }
}

extension Network {
    /// What adds `offsets` to the network's outputs: its last bias alone, a tree to be added to weights.
    /// - Parameter offsets: one an output.
    public func outputShift(_ offsets: [Double]) throws(AccrueError) -> NamedTensors {
        guard let last = affineLayers.last, last.hasBias else {
            throw AccrueError(.invalidInput, while: "moving a network's outputs", "its last layer has no bias")
        }
        return NamedTensors([(last.bias, try Tensor(offsets.map(Float.init), shape: [offsets.count]))])
    }
}
