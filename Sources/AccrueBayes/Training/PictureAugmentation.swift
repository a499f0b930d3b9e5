public import AccrueCore
public import AccrueTensor

/// Training pictures that are shifted and mirrored at random, anew at every step: a window of the picture's own size somewhere in the picture with a border of
/// zeros, and left and right exchanged for half of them.
///
/// Source: He, Zhang, Ren & Sun, "Deep residual learning for image recognition" (2016, arXiv 1512.03385), section 4.2: a border of 4 for 32×32.
public struct PictureAugmentation: Equatable, Sendable {
    /// Positions of the border; 0: pictures are not shifted.
    public var pad: Int
    public var flip: Bool

    /// From `augment: {pad, flip}`; nothing is done by default.
    /// - Throws: `invalidInput` for unknown keys and values out of range.
    public init(_ settings: SettingsReader) throws(AccrueError) {
        let section = try settings.section("augment", known: ["pad", "flip"])
        pad = try section.whole("pad", default: 0, in: 0...64)
        flip = try section.flag("flip", default: false)
    }

    /// Pictures as one step sees them: [rows, channels, height, width].
    /// - Parameter key: the step's own.
    public func callAsFunction(_ pictures: Tensor, key: RandomKey) throws(AccrueError) -> Tensor {
        guard pad > 0 || flip else { return pictures }
        let chances = try key.folding("augment").uniform([pictures.rowCount, 3]).floats()
        let places = Float(2 * pad + 1)
        let moves = (0..<pictures.rowCount).map { row in
            PictureMove(down: Int(chances[3 * row] * places) - pad, right: Int(chances[3 * row + 1] * places) - pad, mirrored: flip && chances[3 * row + 2] < 0.5)
        }
        return try pictures.moved(moves)
    }
}
