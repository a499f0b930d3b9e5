import AccrueCore
import AccrueTensor
import Foundation
import Testing

@Suite struct DrawsTests {
    @Test("uniform numbers never reach 1, where the largest word of all would be rounded to it; Gumbel numbers of it are finite")
    func openInterval() throws {
        // The fourth word of this key's first block begins with 24 ones.
        let key = RandomKey(high: 0, low: 39_075)
        let uniform = try key.uniform([4]).floats()
        #expect(uniform[3] == 1 - 0x1p-24 && uniform.allSatisfy { $0 > 0 && $0 < 1 })
        #expect(try key.gumbel([4]).isFinite())
    }

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

    @Test("every instruction set draws the same bits, wherever a stretch begins and ends", arguments: [1, 63, 64, 65, 1_000, 4_099])
    func levels(count: Int) throws {
        let key = RandomKey(seed: 12)
        let whole = try key.normal([5_000]).floats()
        for level in FusedKernels.allCases where (try? FusedKernels.use(level)) != nil {
            defer { try? FusedKernels.use(.widest) }
            #expect(try key.normal([count]).floats() == Array(whole.prefix(count)), "\(level)")
        }
    }

    @Test("tails of the normals have their probabilities, out to four standard deviations")
    func tails() throws {
        let n = 1_000_000
        let values = try RandomKey(seed: 13).normal([n]).floats()
        for bound in [0.5, 1, 2, 3, 4] {
            let p = erfc(bound / 2.0.squareRoot()) / 2, spread = 5 * (p * (1 - p) / Double(n)).squareRoot()
            #expect(abs(Double(values.filter { Double($0) > bound }.count) / Double(n) - p) < spread)
            #expect(abs(Double(values.filter { Double($0) < -bound }.count) / Double(n) - p) < spread)
        }
    }

    @Test("normals of one block and of its neighbours are uncorrelated, and so are their squares")
    func independence() throws {
        let n = 262_144
        let values = try RandomKey(seed: 14).normal([n]).floats().map(Double.init)
        for distance in [1, 2, 8, 16, 32, 48, 64] {
            var sum = 0.0, squares = 0.0
            for index in 0..<(n - distance) {
                sum += values[index] * values[index + distance]
                squares += (values[index] * values[index] - 1) * (values[index + distance] * values[index + distance] - 1)
            }
            #expect(abs(sum) < 5 * Double(n).squareRoot())
            #expect(abs(squares) < 5 * 2 * Double(n).squareRoot())
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
