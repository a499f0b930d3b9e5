/// One page of what a joining worker holds. Pages are numbered from 0; `last` marks the last.
public struct Inventory: Codable, Equatable, Sendable {
    public var worker: String
    public var page: Int
    public var last: Bool
    /// At most `Limits.pageItemsMax`.
    public var items: [InventoryItem]
    public init(worker: String, page: Int, last: Bool, items: [InventoryItem]) {
        self.worker = worker
        self.page = page
        self.last = last
        self.items = items
    }
}

/// The answer to a page: one verdict an item, in the page's order.
public struct InventoryReply: Codable, Equatable, Sendable {
    public var verdicts: [InventoryVerdict]
    public init(verdicts: [InventoryVerdict]) { self.verdicts = verdicts }
}
