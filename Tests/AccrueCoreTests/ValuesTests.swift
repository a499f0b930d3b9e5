import AccrueCore
import Foundation
import Testing

@Suite("Plain values")
struct ValuesTests {
    @Test("canonical JSON sorts keys, escapes, and is a fixed point")
    func canonicalJSON() throws {
        let value: JSONValue = ["b": [1, 2.5, .null, true], "a": "x\"\\\n\u{1}é"]
        #expect(value.canonical == "{\"a\":\"x\\\"\\\\\\n\\u0001é\",\"b\":[1,2.5,null,true]}")
        #expect(try JSONValue(parsing: Data(value.canonical.utf8)) == value)
    }

    @Test("numbers survive JSON to the last bit")
    func exactNumbers() throws {
        var key = RandomKey(seed: 3)
        for _ in 0..<1000 {
            key = key.folding(1)
            let number = Double(bitPattern: key.low)
            guard number.isFinite else { continue }
            let back = try JSONValue(parsing: Data(JSONValue.number(number).canonical.utf8)).double
            #expect(back == number)
        }
    }

    @Test("keys derived by different names differ, and the derivation never changes")
    func keys() {
        let key = RandomKey(seed: 1)
        #expect(Set((0..<1000).map { key.folding($0) }).count == 1000)
        #expect(key.folding("fit") != key.folding("fits") && key.folding("a").folding("b") != key.folding("ab"))
        #expect(key == RandomKey(seed: 1) && key.folding("fit") == RandomKey(seed: 1).folding("fit"))
    }

    @Test("the keys of a round differ between phases, sweeps, shards and versions")
    func roundKeys() {
        var keys: [RandomKey] = [RoundKeys.initial(seed: 1)]
        for version in 1...3 {
            let round = RoundKeys(seed: 1, version: version)
            keys += [round.begin, round.finish]
            for sweep in 0..<3 {
                keys += [round.sweep(sweep), round.merge(sweep: sweep)]
                for shard in 0..<3 { keys.append(round.fit(sweep: sweep, shard: shard)) }
            }
            for index in 0..<3 { keys += [round.statistics(shard: index), round.score(RowRange(position: index, identity: ContentHash(of: Data()), firstRow: 0, rows: 1))] }
        }
        #expect(Set(keys).count == keys.count)
    }

    @Test("half-precision numbers widen exactly")
    func halfPrecision() {
        let bits: [UInt16] = [0x3C00, 0xC000, 0x7BFF, 0x0001, 0x0400, 0x3555]
        let tensor = TensorBytes(dtype: .f16, shape: [6], data: bits.withUnsafeBytes { Data($0) })
        #expect(tensor.doubles() == [1, -2, 65504, 0x1p-24, 0x1p-14, 0.333251953125])
    }

    @Test("scores merged in parts equal the score of all rows")
    func scoreMerging() {
        func add(_ index: Int, to score: inout Score) {
            let p = Double(index % 9 + 1) / 10
            score.add(probabilities: [p, 1 - p], target: index % 2, totalEntropy: p, mutualInformation: p / 2)
        }
        var whole = Score(), left = Score(), right = Score()
        for index in 0..<100 {
            add(index, to: &whole)
            if index < 37 { add(index, to: &left) } else { add(index, to: &right) }
        }
        left.merge(right)
        #expect(left.rows == whole.rows && left.correct == whole.correct && left.binRows == whole.binRows)
        for (name, figure) in whole.figures { #expect(abs((left.figures[name] ?? .nan) - figure) < 1e-12) }
    }

    @Test("calibration error and Brier score of a known case")
    func scoreFigures() throws {
        var score = Score()
        for index in 0..<10 { score.add(probabilities: [0.8, 0.2], target: index < 6 ? 0 : 1) }
        let figures = score.figures
        #expect(abs(try #require(figures["ece"]) - 0.2) < 1e-12)
        #expect(abs(try #require(figures["accuracy"]) - 0.6) < 1e-12)
        // Six rows miss by 0.2 in both classes, four by 0.8.
        let brier: Double = (6 * 0.08 + 4 * 1.28) / 10
        #expect(abs(try #require(figures["brier"]) - brier) < 1e-12)
    }

    @Test("every error code has its own exit code")
    func exitCodes() {
        #expect(Set(AccrueError.Code.allCases.map(\.exitCode)).count == AccrueError.Code.allCases.count)
    }

    @Test("what Foundation could not do is said in the system's words, and what else went wrong in its own")
    func reasons() {
        func reason(_ work: () throws -> Void) -> String? {
            do { try work() } catch { return error.reason }
            return nil
        }
        let missing = URL(fileURLWithPath: "/no such folder/file")
        #expect(reason { try Data().write(to: missing, options: .atomic) } == "No such file or directory")
        #expect(reason { _ = try Data(contentsOf: missing) } == "No such file or directory")
        let own = AccrueError(.notFound, while: "looking", "nothing is there")
        #expect(reason { throw own } == own.description)
    }
}
