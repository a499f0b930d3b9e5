import AccrueCore
import AccrueTensor
import Foundation
import Testing

@Suite struct DrawsTests {
    @Test("normals have the moments of N(0, 1) within five standard errors")
    func moments() throws {
        let n = 400_000
        for dtype in [DType.f32, .f64] {
            let values = try RandomKey(seed: 7).normal([n], dtype: dtype).doubles()
            let mean = values.reduce(0, +) / Double(n), square = values.reduce(0) { $0 + $1 * $1 } / Double(n)
            let fourth = values.reduce(0) { $0 + pow($1, 4) } / Double(n)
            #expect(abs(mean) < 5 / Double(n).squareRoot())
            #expect(abs(square - 1) < 5 * (2 / Double(n)).squareRoot())
            #expect(abs(fourth - 3) < 5 * (96 / Double(n)).squareRoot())
        }
    }

    @Test("the first block is Philox4x32-10 of its published test vector")
    func knownAnswer() throws {
        // Random123's known answers: counter 0 and key 0 give the words 6627e8d5 e169c58d bc57ac4c 9b00dbd8.
        let expected = [0x6627_E8D5_E169_C58D, 0xBC57_AC4C_9B00_DBD8].map { (word: UInt64) in (Double(word >> 12) + 0.5) * 0x1p-52 }
        #expect(try RandomKey(high: 0, low: 0).uniform([2], dtype: .f64).doubles() == expected)
    }

    @Test("a key always draws the same, its children draw otherwise")
    func keys() throws {
        let key = RandomKey(seed: 1)
        #expect(try key.normal([10]).bytes() == key.normal([10]).bytes())
        #expect(try key.normal([10]).bytes() != key.folding(1).normal([10]).bytes())
        #expect(try key.normal([5]).floats() == Array(key.normal([2, 5]).floats().prefix(5)))
    }

    @Test("a permutation holds every number once, and all orders of three are equally frequent")
    func permutations() {
        #expect(RandomKey(seed: 2).permutation(1000).sorted() == Array(0..<1000))
        var counts: [[Int]: Int] = [:]
        let n = 6_000
        for seed in 0..<n { counts[RandomKey(seed: UInt64(seed)).permutation(3), default: 0] += 1 }
        let spread = 5 * (Double(n) * (1 / 6.0) * (5 / 6.0)).squareRoot()
        #expect(counts.count == 6)
        for count in counts.values { #expect(abs(Double(count) - Double(n) / 6) < spread) }
    }

    @Test("classes drawn from logits have the softmax's frequencies")
    func classes() throws {
        let n = 30_000
        let logits = try Tensor([Float(0), 1, -1], shape: [1, 3]).expanded([n, 3])
        let drawn = try RandomKey(seed: 4).classes(logits: logits).doubles()
        let p = try Tensor([Float(0), 1, -1], shape: [1, 3]).softmax(1).doubles()
        for index in 0..<3 {
            let share = Double(drawn.filter { $0 == Double(index) }.count) / Double(n)
            #expect(abs(share - p[index]) < 5 * (p[index] * (1 - p[index]) / Double(n)).squareRoot())
        }
    }
}
