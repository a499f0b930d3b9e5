/// An explicit source of randomness: 128 bits that name one stream of random numbers.
///
/// A key is a value. Two draws with the same key are the same; independent draws need keys derived from it with
/// `folding(_:)`. The derivation is a fixed 128-bit mixing function (two rounds of the MurmurHash3 finaliser on each half, crossed),
/// so a key depends only on the seed and on the names folded in, never on a machine, a process or the order of calls.
public struct RandomKey: Hashable, Codable, Sendable {
    public var high: UInt64
    public var low: UInt64

    public init(high: UInt64, low: UInt64) {
        self.high = high
        self.low = low
    }

    /// The root key of a seed.
    public init(seed: UInt64) {
        self.init(high: 0x6163_6372_7565_0001, low: 0x9E37_79B9_7F4A_7C15)
        self = folding(seed)
    }

    /// The key of the stream named `word` below this one.
    public func folding(_ word: UInt64) -> RandomKey {
        let a = Self.mix(low ^ Self.mix(word &+ 0x9E37_79B9_7F4A_7C15))
        let b = Self.mix(high &+ a &+ 0xD1B5_4A32_D192_ED03)
        return RandomKey(high: b, low: Self.mix(a ^ (b << 1 | 1)))
    }

    public func folding(_ word: Int) -> RandomKey { folding(UInt64(bitPattern: Int64(word))) }

    /// The key of the stream with this name below this one.
    public func folding(_ name: String) -> RandomKey {
        var key = folding(UInt64(name.utf8.count))
        var word: UInt64 = 0
        var filled = 0
        for byte in name.utf8 {
            word = word << 8 | UInt64(byte)
            filled += 1
            if filled == 8 {
                key = key.folding(word)
                word = 0
                filled = 0
            }
        }
        return filled > 0 ? key.folding(word) : key
    }

    private static func mix(_ value: UInt64) -> UInt64 {
        var z = value
        z = (z ^ (z >> 33)) &* 0xFF51_AFD7_ED55_8CCD
        z = (z ^ (z >> 33)) &* 0xC4CE_B9FE_1A85_EC53
        return z ^ (z >> 33)
    }
}
