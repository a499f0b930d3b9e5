// Standard normals: Philox4x32-10 and the Box–Muller transform, a vector of blocks at a time. Included by Level.hpp only.
//
// Salmon, Moraes, Dror & Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC 2011); Box & Muller (1958). The polynomials for log, sin and cos are
// Cephes' single-precision ones (Moshier). No product is contracted with a sum, and every other operation is exact or correctly rounded, so all
// instruction sets give the same bits.
//
// A number depends on its key and its place only. Places go in groups of 64, made of 16 blocks: the number at place 64·g + 16·r + b is the r-th of the
// four normals of block 16·g + b.

constexpr int64_t groupCount = 64, groupBlocks = 16;

// The cipher of `lanes` successive counters. Words are kept in the low halves of 64-bit lanes, even blocks apart from odd ones: a product's high half
// is then one shift away.
struct Cipher {
    W c0, c1, c2, c3;
};

ACCRUE_INLINE Cipher encipher(W index, uint64_t high, uint64_t low) {
    constexpr uint64_t mask = 0xFFFFFFFFu;
    Cipher c = {index, index >> 32, W(high & mask), W(high >> 32)};
    uint32_t k0 = static_cast<uint32_t>(low), k1 = static_cast<uint32_t>(low >> 32);
#pragma clang loop unroll(full)
    for (int round = 0; round < 10; ++round) {
        const W p0 = (c.c0 & mask) * W(0xD2511F53u), p1 = (c.c2 & mask) * W(0xCD9E8D57u);
        c = {(p1 >> 32) ^ c.c1 ^ W(k0), p1, (p0 >> 32) ^ c.c3 ^ W(k1), p0};
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return c;
}

ACCRUE_INLINE U words(W even, W odd) { return __builtin_bit_cast(U, (even & 0xFFFFFFFFu) | (odd << 32)); }

// log of numbers in [2⁻³², 1].
ACCRUE_INLINE F logarithm(F u) {
#pragma clang fp contract(off)
    U raw = bits(u);
    F m = bits((raw & 0x007FFFFFu) | 0x3F000000u), e = number(__builtin_bit_cast(I, (raw >> 23))) - 126.0f;
    const I small = m < F(0.707106781186547524f);
    e = small ? e - 1.0f : e;
    m = (small ? m + m : m) - 1.0f;
    const F z = m * m;
    F y = m * 7.0376836292e-2f - 1.1514610310e-1f;
    y = y * m + 1.1676998740e-1f;
    y = y * m - 1.2420140846e-1f;
    y = y * m + 1.4249322787e-1f;
    y = y * m - 1.6668057665e-1f;
    y = y * m + 2.0000714765e-1f;
    y = y * m - 2.4999993993e-1f;
    y = y * m + 3.3333331174e-1f;
    y = y * m * z + e * -2.12194440e-4f - z * 0.5f;
    return m + y + e * 0.693359375f;
}

// Two independent normals from two words: the first gives the radius (32 bits: up to 6.6 standard deviations), the second the angle.
ACCRUE_INLINE void gaussianPair(U a, U b, F &first, F &second) {
#pragma clang fp contract(off)
    const F u = number(__builtin_bit_cast(I, a >> 1)) * 0x1p-31f + 0x1p-32f;
    const F square = logarithm(u) * -2.0f, radius = root(__builtin_elementwise_max(square, F(0.0f)));
    // The word is a share of the full turn: its nearest quarter, and what is left of it, at most an eighth.
    const U quarter = (b + 0x20000000u) >> 30;
    const F x = number(__builtin_bit_cast(I, b - (quarter << 30))) * 1.46291807926715968e-9f, z = x * x;
    const F sine = ((z * -1.9515295891e-4f + 8.3321608736e-3f) * z - 1.6666654611e-1f) * z * x + x;
    const F cosine = ((z * 2.443315711809948e-5f - 1.388731625493765e-3f) * z + 4.166664568298827e-2f) * z * z - z * 0.5f + 1.0f;
    const I odd = __builtin_bit_cast(I, quarter << 31);
    first = radius * bits(bits(odd ? sine : cosine) ^ (((quarter + 1u) & 2u) << 30));
    second = radius * bits(bits(odd ? cosine : sine) ^ ((quarter & 2u) << 30));
}

ACCRUE_INLINE void normalGroup(uint64_t high, uint64_t low, uint64_t group, float *out) {
    W even;
    for (int lane = 0; lane < lanes / 2; ++lane) even[lane] = 2 * static_cast<uint64_t>(lane);
    for (int64_t block = 0; block < groupBlocks; block += lanes) {
        const W index = even + (group * groupBlocks + static_cast<uint64_t>(block));
        const Cipher a = encipher(index, high, low), b = encipher(index + 1u, high, low);
        F n0, n1, n2, n3;
        gaussianPair(words(a.c0, b.c0), words(a.c1, b.c1), n0, n1);
        gaussianPair(words(a.c2, b.c2), words(a.c3, b.c3), n2, n3);
        store(out + block, n0);
        store(out + block + groupBlocks, n1);
        store(out + block + 2 * groupBlocks, n2);
        store(out + block + 3 * groupBlocks, n3);
    }
}

static void normals(uint64_t high, uint64_t low, uint64_t first, int64_t count, float *out) {
    while (count > 0) {
        const uint64_t group = first / groupCount;
        const int64_t skip = static_cast<int64_t>(first % groupCount), some = count < groupCount - skip ? count : groupCount - skip;
        if (some == groupCount) {
            normalGroup(high, low, group, out);
        } else {
            float whole[groupCount];
            normalGroup(high, low, group, whole);
            __builtin_memcpy(out, whole + skip, sizeof(float) * static_cast<size_t>(some));
        }
        first += static_cast<uint64_t>(some);
        out += some;
        count -= some;
    }
}
