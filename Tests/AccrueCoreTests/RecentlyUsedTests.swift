import AccrueCore
import Testing

@Suite("Values kept while there is room")
struct RecentlyUsedTests {
    @Test("the longest unused goes first, and what costs more than all the room is not kept")
    func room() {
        let kept = RecentlyUsed<String, Int>(costMax: 10)
        kept.insert(1, for: "a", cost: 4)
        kept.insert(2, for: "b", cost: 4)
        #expect(kept["a"] == 1)
        kept.insert(3, for: "c", cost: 4)
        #expect(kept["b"] == nil && kept["a"] == 1 && kept["c"] == 3)
        kept.insert(4, for: "a", cost: 11)
        #expect(kept["a"] == nil && kept["c"] == 3)
        // The room that "a" had is free again.
        kept.insert(5, for: "d", cost: 6)
        #expect(kept["c"] == 3 && kept["d"] == 5)
    }

    @Test("what was not used in the last turns goes, and makes room")
    func turns() {
        let kept = RecentlyUsed<String, Int>(costMax: 10)
        kept.insert(1, for: "used", cost: 5)
        kept.insert(2, for: "unused", cost: 5)
        for _ in 0..<3 {
            kept.endTurn(keeping: 2)
            #expect(kept["used"] == 1)
        }
        #expect(kept["unused"] == nil)
        kept.insert(3, for: "new", cost: 5)
        #expect(kept["used"] == 1 && kept["new"] == 3)
    }
}
