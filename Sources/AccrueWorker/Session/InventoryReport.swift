import AccrueCore
import AccrueWire

/// What a joining worker holds, told to the coordinator in pages; what it no longer needs is dropped.
struct InventoryReport: Sendable {
    /// Room that the items of one page may take in its header, roughly.
    private static let pageBytesMax = Limits.headerBytesMax / 2

    let worker: String
    let spool: Spool
    let control: Requester

    /// - Throws: `unavailable` when the coordinator does not answer; what it refuses.
    func send() async throws(AccrueError) {
        let pages = Self.pages(spool.items())
        for (number, items) in pages.enumerated() {
            let page = Inventory(
                worker: worker, page: number, last: number == pages.count - 1, items: items.map { InventoryItem(incarnation: $0.incarnation, chunk: $0.chunk) })
            let reply = try await control.ask(.inventory, page, as: InventoryReply.self)
            guard reply.verdicts.count == items.count else {
                throw AccrueError(
                    .corrupt, while: "telling the coordinator what this worker holds", "\(reply.verdicts.count) verdicts on \(items.count) chunks",
                    hint: "use the same release of Accrue everywhere")
            }
            for (item, verdict) in zip(items, reply.verdicts) {
                switch verdict {
                case .drop: spool.drop(item.key, asListed: item)
                case .located, .appended, .keep: spool.markKnown(item.key)
                }
            }
        }
    }

    /// At least one page, so that a worker that holds nothing says so.
    static func pages(_ items: [Spool.Item]) -> [[Spool.Item]] {
        var pages: [[Spool.Item]] = [[]]
        var bytes = 0
        for item in items {
            // A character of a key may take six when it is written as JSON.
            let cost = 256 + item.incarnation.utf8.count + 6 * (item.chunk.key?.utf8.count ?? 0)
            if let last = pages.last, !last.isEmpty, last.count >= Limits.pageItemsMax || bytes + cost > pageBytesMax {
                pages.append([])
                bytes = 0
            }
            pages[pages.count - 1].append(item)
            bytes += cost
        }
        return pages
    }
}
