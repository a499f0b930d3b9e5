import AccrueCore
import AccrueTensor
import Foundation
import Testing

/// What is done to pictures before a network sees them.
@Suite struct PictureTests {
    private let key = RandomKey(seed: 4)

    @Test("I420 frames become red, green and blue by the rule of full-range JFIF")
    func colours() throws {
        let side = 4, bytes = (0..<48).map { UInt8(truncatingIfNeeded: $0 &* 89 &+ 17) }
        let found = try Tensor(TensorBytes(bytes, shape: [2, 24])).rgbOfI420(side: side)
        #expect(found.shape == [2, 3, 4, 4] && found.dtype == .u8)
        let values = try found.doubles()
        for row in 0..<2 {
            for i in 0..<side {
                for j in 0..<side {
                    let y = Double(bytes[row * 24 + i * side + j]), chroma = row * 24 + 16 + i / 2 * 2 + j / 2
                    let b = Double(bytes[chroma]) - 128, e = Double(bytes[chroma + 4]) - 128
                    for (plane, exact) in [y + 1.402 * e, y - 0.344136 * b - 0.714136 * e, y + 1.772 * b].enumerated() {
                        #expect(abs(values[((row * 3 + plane) * side + i) * side + j] - min(255, max(0, exact))) <= 0.51)
                    }
                }
            }
        }
        #expect(throws: AccrueError.self) { try Tensor(TensorBytes(bytes, shape: [2, 24])).rgbOfI420(side: 6) }
        #expect(throws: AccrueError.self) { try Tensor.ones([2, 24]).rgbOfI420(side: 4) }
    }

    @Test("a moved picture is seen through a window that moves, with zeros from beyond its edges, and mirrored first")
    func moved() throws {
        let x = try key.normal([4, 2, 3, 5]), values = try x.floats()
        let moves = [
            PictureMove(down: 0, right: 0, mirrored: false), PictureMove(down: 1, right: -2, mirrored: false), PictureMove(down: -1, right: 1, mirrored: true),
            PictureMove(down: 3, right: 0, mirrored: false),
        ]
        let found = try x.moved(moves).floats()
        for (row, move) in moves.enumerated() {
            for channel in 0..<2 {
                for i in 0..<3 {
                    for j in 0..<5 {
                        let from = (i + move.down, j + move.right), inside = (0..<3).contains(from.0) && (0..<5).contains(from.1)
                        let column = move.mirrored ? 4 - from.1 : from.1, plane = (row * 2 + channel) * 3
                        #expect(found[(plane + i) * 5 + j] == (inside ? values[(plane + from.0) * 5 + column] : 0))
                    }
                }
            }
        }
        #expect(throws: AccrueError.self) { try x.moved([moves[0]]) }
    }

    @Test("a grouped convolution is one convolution a group, and the k-th largest element is that of the sorted row")
    func groups() throws {
        let x = try key.normal([3, 6, 5, 5]), weight = try key.folding("w").normal([4, 3, 3, 3])
        let together = try x.convolved(weight, nil, padding: 1, groups: 2)
        for group in 0..<2 {
            let alone = try x.narrowed(1, group * 3..<group * 3 + 3).convolved(try weight.rows(group * 2..<group * 2 + 2), nil, padding: 1)
            #expect(try (together.narrowed(1, group * 2..<group * 2 + 2) - alone).absolute().largest().item() < 1e-5)
        }
        #expect(try Tensor([3.0, 1, 2, 5, 5, -1], shape: [2, 3]).kthLargest(2).doubles() == [2, 5])
    }

    @Test("Gumbel numbers have their mean and variance")
    func gumbel() throws {
        let count = 200_000, values = try key.gumbel([count]).doubles(), mean = values.reduce(0, +) / Double(count)
        let variance = values.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(count), expected = Double.pi * Double.pi / 6
        // Euler's constant; the fourth central moment of a Gumbel is 14.6.
        #expect(abs(mean - 0.5772156649) < 4 * (expected / Double(count)).squareRoot())
        #expect(abs(variance - expected) < 4 * ((14.6 - expected * expected) / Double(count)).squareRoot())
    }
}
