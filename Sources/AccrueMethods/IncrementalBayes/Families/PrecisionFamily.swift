import AccrueBayes
import AccrueCore
import AccrueTensor

/// What a round's rows say of the weights: D and C of an information matrix diag(D) + C.
struct Information: Sendable {
    var diagonal: NamedTensors
    var coupling: NamedTensors
}

/// The form of a precision Λ = diag(D) + C: D has a number a weight; what C is, and how it is kept, is the family's.
///
/// The first prior P₀ couples nothing, so mixing back to it, P₀ + κ(Λ − P₀), is D as for independent weights, and C times κ.
protocol PrecisionFamily: Sendable {
    /// C of the first prior: zeros, in the form in which C is kept; empty where the family has no C.
    func none() throws(AccrueError) -> NamedTensors
    /// C x, of the weights that C couples; the rest of C x is zero.
    func product(_ coupling: NamedTensors, _ x: NamedTensors) throws(AccrueError) -> NamedTensors
    /// Of some rows: Fisher information at the weights, of all weights of the network (not the likelihood's own).
    func information(_ weights: NamedTensors, _ batch: Batch, key: RandomKey) throws(AccrueError) -> Information
    /// C times a positive number.
    func scaled(_ coupling: NamedTensors, by factor: Double) throws(AccrueError) -> NamedTensors
    /// The sum of C's, in order; `dropped` is what the form cannot hold, to be added to D.
    func sum(_ couplings: [NamedTensors]) throws(AccrueError) -> (coupling: NamedTensors, dropped: NamedTensors)
    /// C of a network with fewer outputs as one of this network's: weights of new outputs are coupled to none. By default refused where C changes its form.
    func appended(_ coupling: NamedTensors) throws(AccrueError) -> NamedTensors
    /// Draws of N(0, Λ⁻¹) as a function of the key; nil where weights are independent.
    func draws(_ diagonal: NamedTensors, _ coupling: NamedTensors) throws(AccrueError) -> (@Sendable (RandomKey) throws(AccrueError) -> NamedTensors)?
}

extension PrecisionFamily {
    /// The information of two sets of rows together.
    func sum(_ first: Information, _ second: Information) throws(AccrueError) -> Information {
        let (coupling, dropped) = try sum([first.coupling, second.coupling])
        let diagonal = try first.diagonal.zip(second.diagonal) { (a, b) throws(AccrueError) in try a + b[0] }
        return Information(diagonal: try diagonal.adding(dropped), coupling: coupling)
    }

    func appended(_ coupling: NamedTensors) throws(AccrueError) -> NamedTensors {
        for (name, expected) in try none().tensors where try coupling.tensor(name).shape != expected.shape {
            throw AccrueError(
                .invalidInput, while: "appending classes", "the settings' family couples the weights of all classes",
                hint: "apply a pipeline of another name, with family diagonal, channel or lowRank")
        }
        return coupling
    }
}

/// Independent weights: C = 0. Information adds exactly over shards.
struct DiagonalFamily: PrecisionFamily {
    let model: IncrementalModel

    func none() throws(AccrueError) -> NamedTensors { NamedTensors() }
    func product(_ coupling: NamedTensors, _ x: NamedTensors) throws(AccrueError) -> NamedTensors { NamedTensors() }
    func information(_ weights: NamedTensors, _ batch: Batch, key: RandomKey) throws(AccrueError) -> Information {
        let squares = try model.network.squaredGradients(weights, inputs: batch.inputs) { (outputs) throws(AccrueError) in
            try model.drawnLoss(outputs, weights, key: key)
        }
        return Information(diagonal: squares, coupling: NamedTensors())
    }
    func scaled(_ coupling: NamedTensors, by factor: Double) throws(AccrueError) -> NamedTensors { coupling }
    func sum(_ couplings: [NamedTensors]) throws(AccrueError) -> (coupling: NamedTensors, dropped: NamedTensors) { (NamedTensors(), NamedTensors()) }
    func draws(_ diagonal: NamedTensors, _ coupling: NamedTensors) throws(AccrueError) -> (@Sendable (RandomKey) throws(AccrueError) -> NamedTensors)? { nil }
}

extension IncrementalModel {
    /// Σ over rows of −log p(ŷ | x, w) with ŷ drawn from the model: its squared gradients are the true Fisher information's, in expectation.
    func drawnLoss(_ outputs: Tensor, _ weights: NamedTensors, key: RandomKey) throws(AccrueError) -> Tensor {
        let labels = try likelihood.draw(try outputs.detached(), weights: weights, key: key)
        return try likelihood.loss(outputs, labels, weights: weights, .sum)
    }

    /// Row gradients whose outer products, summed over rows and over the list, are the Fisher information at the weights.
    /// - Parameter key: softmax labels are drawn with it, so one pass is enough; nil, and for other likelihoods: exactly, a pass for each root of the outputs'
    ///   information (the generalised Gauss–Newton matrix).
    func informationGradients(_ weights: NamedTensors, _ batch: Batch, drawing key: RandomKey?) throws(AccrueError) -> [[String: RowGradient]] {
        try informationPasses(weights, batch, drawing: key) { (function) throws(AccrueError) in
            try network.rowGradients(weights, inputs: batch.inputs, of: function)
        }
    }

    /// What `pass` makes of each sum over rows whose row gradients' outer products, summed, are the Fisher information.
    /// - Parameter key: as of `informationGradients`.
    func informationPasses<Result>(
        _ weights: NamedTensors, _ batch: Batch, drawing key: RandomKey?, _ pass: ((Tensor) throws(AccrueError) -> Tensor) throws(AccrueError) -> Result
    ) throws(AccrueError) -> [Result] {
        if case .softmax = likelihood, let key { return [try pass { (outputs) throws(AccrueError) in try drawnLoss(outputs, weights, key: key) }] }
        var plain = PlainPass(weights)
        let roots = try likelihood.informationRoots(try network.apply(batch.inputs, &plain), weights: weights)
        return try roots.map { (root) throws(AccrueError) in try pass { (outputs) throws(AccrueError) in try (outputs * root).sum() } }
    }

    /// The precision's form that the settings ask for.
    /// - Throws: `limitExceeded` when a block of it would be too large.
    func precisionFamily() throws(AccrueError) -> any PrecisionFamily {
        switch settings.family {
        case .diagonal: DiagonalFamily(model: self)
        case .channel: BlockFamily.channel(self)
        case .lastLayer: try BlockFamily.lastLayer(self)
        case .full: try BlockFamily.full(self)
        case .kronecker: try KroneckerFamily(model: self)
        case .lowRank: LowRankFamily(model: self, rank: settings.rank)
        }
    }
}
