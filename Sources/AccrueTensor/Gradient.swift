public import AccrueCore
import CTorch

/// The value of a function of the weights, and its gradient there, by reverse-mode differentiation.
///
/// - Parameters:
///   - weights: any tree of floating-point tensors.
///   - function: a scalar (one element) of the weights, made with operations on tensors; called once.
/// - Returns: the value without a recorded past, and a tree of the same type as the weights; zeros where the value does not depend on a weight.
/// - Throws: what `function` throws; `invalidInput` when its value has not exactly one element.
public func valueAndGradient<Weights: TensorTree>(
    at weights: Weights, of function: (Weights) throws(AccrueError) -> Tensor
) throws(AccrueError) -> (value: Tensor, gradient: Weights) {
    let (value, gradient, _) = try valueAndGradient(at: weights) { (weights) throws(AccrueError) in (try function(weights), ()) }
    return (value, gradient)
}

/// As `valueAndGradient(at:of:)`, for functions that also say something aside, such as batch statistics (to be detached by the caller if kept).
public func valueAndGradient<Weights: TensorTree, Aside>(
    at weights: Weights, aside function: (Weights) throws(AccrueError) -> (Tensor, Aside)
) throws(AccrueError) -> (value: Tensor, gradient: Weights, aside: Aside) {
    let leaves = try weights.map { (tensor) throws(AccrueError) in try Tensor.result("a leaf", [tensor], ct_leaf(tensor.handle)) }
    let was = ct_set_recording(true)
    defer { _ = ct_set_recording(was) }
    let (value, aside) = try function(leaves)
    guard value.elementCount == 1 else {
        throw AccrueError(.invalidInput, while: "differentiating", "the function's value has shape \(value.shape); it must be one number", hint: "sum or average it")
    }
    let list = leaves.tensors.map(\.tensor)
    var handles = [ct_tensor?](repeating: nil, count: list.count)
    guard ct_gradient(value.handle, list.map(\.handle), Int32(list.count), &handles) == 0 else { throw Tensor.failure("differentiating") }
    var gradients: [Tensor] = []
    for handle in handles { gradients.append(Tensor(owning: try Tensor.made(handle, "differentiating"))) }
    return (try value.detached(), try weights.replacing(gradients), aside)
}
