/// How long the bytes of absorbed chunks stay on the workers' disks. Learning goes on without them; replaying and forgetting need them.
public enum Retention: Equatable, Sendable {
    case all
    /// Until a version is committed that absorbs them (the default).
    case none
    /// Until this many newer versions are committed.
    case versions(Int)

    /// - Parameters: version: which absorbs the chunk; newest: the newest version.
    public func keeps(absorbedBy version: Int, newest: Int) -> Bool {
        switch self {
        case .all: true
        case .none: false
        case .versions(let count): newest - version < count
        }
    }

    /// The version whose chunks go when `newest` is committed; nil when none go.
    public func expired(by newest: Int) -> Int? {
        switch self {
        case .all: nil
        case .none: newest
        case .versions(let count): newest - count >= 1 ? newest - count : nil
        }
    }
}

extension Retention: Codable {
    /// `all`, `none` or `versions N`.
    public init?(_ text: String) {
        let words = text.split(separator: " ")
        switch (words.first, words.count) {
        case ("all", 1): self = .all
        case ("none", 1): self = .none
        case ("versions", 2):
            guard let count = Int(words[1]), count > 0 else { return nil }
            self = .versions(count)
        default: return nil
        }
    }

    public var text: String {
        switch self {
        case .all: "all"
        case .none: "none"
        case .versions(let count): "versions \(count)"
        }
    }

    public init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        guard let value = Retention(try container.decode(String.self)) else {
            throw DecodingError.dataCorruptedError(in: container, debugDescription: "expected 'all', 'none' or 'versions N'")
        }
        self = value
    }

    public func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(text)
    }
}
