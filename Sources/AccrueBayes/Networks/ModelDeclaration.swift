public import AccrueCore

/// A model as settings declare it: `model: {kind: …}`.
public struct ModelDeclaration: Equatable, Sendable {
    public enum Kind: String, CaseIterable, Sendable {
        /// One dense layer.
        case linear
        /// Dense layers with ReLU: `hidden`, default [100].
        case mlp
        /// LeNet-5 in its 20-50-500 form: two 5×5 convolutions with 2×2 max-pooling, two dense layers, ReLU.
        case lenet5
        /// Three 3×3 convolutions (`widths`, default [32, 64, 128]) with 2×2 max-pooling and one dense layer; made for 3×32×32 images.
        case conv3
    }

    public static let keys = ["kind", "bias", "hidden", "widths", "batchNorm"]

    public var kind: Kind
    /// Whether layers have biases (default true).
    public var bias: Bool
    public var hidden: [Int]
    public var widths: [Int]
    /// Batch normalisation before every ReLU (default false).
    public var batchNorm: Bool

    /// - Throws: `invalidInput` for unknown keys and values out of range.
    public init(_ settings: SettingsReader) throws(AccrueError) {
        let model = try settings.section("model", known: Self.keys)
        kind = try model.choice("kind", default: nil)
        bias = try model.flag("bias", default: true)
        hidden = try model.wholes("hidden", default: [100], in: 1...100_000)
        widths = try model.wholes("widths", default: [32, 64, 128], in: 1...4_096)
        batchNorm = try model.flag("batchNorm", default: false)
        guard widths.count == 3 else { throw model.refuse("widths", "has \(widths.count) numbers; conv3 has 3 convolutions") }
        if model.has("hidden"), kind != .mlp { throw model.refuse("hidden", "belongs to kind mlp, not to \(kind.rawValue)") }
        if model.has("widths"), kind != .conv3 { throw model.refuse("widths", "belongs to kind conv3, not to \(kind.rawValue)") }
        if batchNorm, kind == .linear { throw model.refuse("batchNorm", "needs hidden layers; kind linear has none") }
    }

    /// The network for inputs of this shape.
    /// - Throws: `invalidInput` when the inputs are no images, or too small, for a convolutional model.
    public func network(inputShape: [Int], outputs: Int) throws(AccrueError) -> Network {
        var layers: [Layer] = []
        func block(_ affine: Layer.Affine) -> [Layer] {
            let norm: [Layer] = batchNorm ? [.batchNorm(.init(name: "\(affine.name).norm", features: affine.outputs))] : []
            return [.affine(affine)] + norm + [.relu]
        }
        let features = inputShape.reduce(1, *)
        switch kind {
        case .linear:
            layers = [.affine(.init("dense", .dense, inputs: features, outputs: outputs, hasBias: bias))]
            return Network(layers: layers, inputShape: [features])
        case .mlp:
            var inputs = features
            for (index, width) in hidden.enumerated() {
                layers += block(.init("dense\(index + 1)", .dense, inputs: inputs, outputs: width, hasBias: bias))
                inputs = width
            }
            layers.append(.affine(.init("dense\(hidden.count + 1)", .dense, inputs: inputs, outputs: outputs, hasBias: bias)))
            return Network(layers: layers, inputShape: [features])
        case .lenet5:
            let image = try self.image(inputShape, least: 16)
            layers += block(.init("conv1", .convolution(kernel: 5, padding: 0), inputs: image[0], outputs: 20, hasBias: bias)) + [.maxPool(size: 2, stride: 2)]
            layers += block(.init("conv2", .convolution(kernel: 5, padding: 0), inputs: 20, outputs: 50, hasBias: bias)) + [.maxPool(size: 2, stride: 2), .flatten]
            let left = image.dropFirst().map { (($0 - 4) / 2 - 4) / 2 }.reduce(50, *)
            layers += block(.init("dense1", .dense, inputs: left, outputs: 500, hasBias: bias))
            layers.append(.affine(.init("dense2", .dense, inputs: 500, outputs: outputs, hasBias: bias)))
            return Network(layers: layers, inputShape: image)
        case .conv3:
            let image = try self.image(inputShape, least: 8)
            var inputs = image[0]
            for (index, width) in widths.enumerated() {
                layers += block(.init("conv\(index + 1)", .convolution(kernel: 3, padding: 1), inputs: inputs, outputs: width, hasBias: bias))
                layers.append(.maxPool(size: 2, stride: 2))
                inputs = width
            }
            let left = image.dropFirst().map { $0 / 8 }.reduce(inputs, *)
            layers += [.flatten, .affine(.init("dense", .dense, inputs: left, outputs: outputs, hasBias: bias))]
            return Network(layers: layers, inputShape: image)
        }
    }

    /// [channels, height, width] of an image input; [height, width] is one channel.
    private func image(_ shape: [Int], least: Int) throws(AccrueError) -> [Int] {
        let image = shape.count == 2 ? [1] + shape : shape
        guard image.count == 3, image[1] >= least, image[2] >= least else {
            throw AccrueError(
                .invalidInput, while: "building model \(kind.rawValue)", "the input has shape \(shape); [channels, height, width] of at least \(least)×\(least) is needed",
                hint: "use kind mlp for inputs that are no images")
        }
        return image
    }
}
