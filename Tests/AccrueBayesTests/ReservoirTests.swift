import AccrueBayes
import AccrueCore
import Foundation
import Testing

@Suite("Reservoirs")
struct ReservoirTests {
    private let schema = Schema([TensorSchema("x", role: .input, dtype: .i64, shape: [])])
    private func rows(_ range: Range<Int>) throws -> Rows {
        try Rows(["x": TensorBytes(range.map(Int64.init), shape: [range.count])], schema: schema, while: "testing")
    }
    private func numbers(_ reservoir: Reservoir) throws -> [Int] { try reservoir.rows(schema)?.tensors["x"]?.doubles().map { Int($0) } ?? [] }

    @Test("the sample of a union is the same however parts were merged, and holds no row twice")
    func merging() throws {
        let key = RandomKey(seed: 1)
        let parts = try (0..<5).map { try Reservoir(of: [try rows($0 * 100..<$0 * 100 + 100)], capacity: 30, key: key.folding($0)) }
        let whole = Reservoir(capacity: 30).merged(with: parts)
        var stepwise = Reservoir(capacity: 30)
        for part in parts.reversed() { stepwise = stepwise.merged(with: [part]) }
        #expect(try numbers(whole) == numbers(stepwise))
        #expect(try Set(numbers(whole)).count == 30)
    }

    @Test("every row has the same chance to stay, wherever it stood: 2,000 samples of 20 out of 100 rows, each count within five standard errors")
    func uniform() throws {
        var counts = [Int](repeating: 0, count: 100)
        for seed in 0..<2_000 as Range<UInt64> {
            let key = RandomKey(seed: seed)
            var reservoir = Reservoir(capacity: 20)
            for part in 0..<4 { reservoir = reservoir.merged(with: [try Reservoir(of: [try rows(part * 25..<part * 25 + 25)], capacity: 20, key: key.folding(part))]) }
            for number in try numbers(reservoir) { counts[number] += 1 }
        }
        let error = (2_000 * 0.2 * 0.8).squareRoot()
        #expect(counts.allSatisfy { abs(Double($0) - 400) < 5 * error })
    }

    @Test("its stored form gives the same rows and priorities, and one with unequal rows is refused")
    func stored() throws {
        let reservoir = try Reservoir(of: [try rows(0..<50)], capacity: 10, key: RandomKey(seed: 2))
        let again = try Reservoir(Safetensors(tensors: reservoir.storedTensors()), capacity: 10)
        #expect(again.priorities == reservoir.priorities && again.tensors == reservoir.tensors)
        var broken = reservoir.storedTensors()
        broken["reservoir.rows.x"] = TensorBytes([Int64(1)], shape: [1])
        #expect { try Reservoir(Safetensors(tensors: broken), capacity: 10) } throws: { ($0 as? AccrueError)?.code == .corrupt }
    }
}
