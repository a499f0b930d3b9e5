/// Virtual time and what is to happen in it: things due at the same moment happen in the order in which they were planned.
final class Agenda {
    private struct Item {
        var atMs: Int
        var number: Int
        var action: () -> Void
        func isBefore(_ other: Item) -> Bool { (atMs, number) < (other.atMs, other.number) }
    }

    private(set) var nowMs = 0
    private var heap: [Item] = []
    private var number = 0

    func after(_ ms: Int, _ action: @escaping () -> Void) {
        number += 1
        heap.append(Item(atMs: nowMs + max(0, ms), number: number, action: action))
        var child = heap.count - 1
        while child > 0, heap[child].isBefore(heap[(child - 1) / 2]) {
            heap.swapAt(child, (child - 1) / 2)
            child = (child - 1) / 2
        }
    }

    /// Again and again until `action` returns false.
    func every(_ ms: Int, _ action: @escaping () -> Bool) {
        after(ms) { [unowned self] in if action() { every(ms, action) } }
    }

    /// Lets the next thing happen.
    /// - Returns: false when nothing is left.
    func step() -> Bool {
        guard let first = heap.first else { return false }
        let last = heap.removeLast()
        if !heap.isEmpty {
            heap[0] = last
            var parent = 0
            while true {
                var least = parent
                for child in [2 * parent + 1, 2 * parent + 2] where child < heap.count && heap[child].isBefore(heap[least]) { least = child }
                if least == parent { break }
                heap.swapAt(parent, least)
                parent = least
            }
        }
        nowMs = first.atMs
        first.action()
        return true
    }
}
