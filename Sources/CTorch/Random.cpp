// Counter-based random numbers: Philox4x32-10.
//
// Salmon, Moraes, Dror & Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC 2011). Block b of a key is the cipher of the counter (b, high half
// of the key); the cipher's own key is the low half. The numbers depend on the key and on their place only.
#include "Failure.hpp"
#include "Kernels/Kernels.hpp"
#include <algorithm>
#include <cmath>

using namespace ct;

namespace {

struct Block {
    uint32_t word[4];
};

inline Block philox(uint64_t high, uint64_t low, uint64_t index) {
    uint32_t c0 = static_cast<uint32_t>(index), c1 = static_cast<uint32_t>(index >> 32);
    uint32_t c2 = static_cast<uint32_t>(high), c3 = static_cast<uint32_t>(high >> 32);
    uint32_t k0 = static_cast<uint32_t>(low), k1 = static_cast<uint32_t>(low >> 32);
    for (int round = 0; round < 10; ++round) {
        const uint64_t p0 = static_cast<uint64_t>(0xD2511F53u) * c0, p1 = static_cast<uint64_t>(0xCD9E8D57u) * c2;
        const uint32_t n0 = static_cast<uint32_t>(p1 >> 32) ^ c1 ^ k0, n2 = static_cast<uint32_t>(p0 >> 32) ^ c3 ^ k1;
        c1 = static_cast<uint32_t>(p1);
        c3 = static_cast<uint32_t>(p0);
        c0 = n0;
        c2 = n2;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return {{c0, c1, c2, c3}};
}

// The middle of one of 2^24 equal cells of (0, 1): exact in Float32, never 0 or 1.
// The largest word of all would be rounded to 1.
inline float open_unit(uint32_t word) { return std::min((static_cast<float>(word >> 8) + 0.5f) * 0x1p-24f, 0x1.fffffep-1f); }
inline double open_unit(uint32_t a, uint32_t b) {
    const uint64_t bits = (static_cast<uint64_t>(a) << 32 | b) >> 12;
    return (static_cast<double>(bits) + 0.5) * 0x1p-52;
}

// Box & Muller (1958); in Float32 by the kernels.
inline void gaussian_pair(double u, double v, double *out) {
    const double radius = std::sqrt(-2.0 * std::log(u)), angle = 6.283185307179586 * v;
    out[0] = radius * std::cos(angle);
    out[1] = radius * std::sin(angle);
}

template <typename Element, int perBlock, typename Fill>
void fill(uint64_t high, uint64_t low, Element *out, int64_t count, Fill from) {
    for (int64_t block = 0; block * perBlock < count; ++block) {
        Element values[perBlock];
        from(philox(high, low, static_cast<uint64_t>(block)), values);
        for (int64_t index = 0; index < perBlock && block * perBlock + index < count; ++index) out[block * perBlock + index] = values[index];
    }
}

}  // namespace

extern "C" {

ct_tensor ct_normal(uint64_t high, uint64_t low, const int64_t *sizes, int32_t dims, int32_t dtype) {
    return make([&] {
        auto result = at::empty(shape(sizes, dims), type(dtype));
        if (result.scalar_type() == at::kFloat)
            kernels().normals(high, low, 0, result.numel(), result.data_ptr<float>());
        else
            fill<double, 2>(high, low, result.data_ptr<double>(), result.numel(), [](Block b, double *out) {
                gaussian_pair(open_unit(b.word[0], b.word[1]), open_unit(b.word[2], b.word[3]), out);
            });
        return result;
    });
}

ct_tensor ct_uniform(uint64_t high, uint64_t low, const int64_t *sizes, int32_t dims, int32_t dtype) {
    return make([&] {
        auto result = at::empty(shape(sizes, dims), type(dtype));
        if (result.scalar_type() == at::kFloat)
            fill<float, 4>(high, low, result.data_ptr<float>(), result.numel(), [](Block b, float *out) {
                for (int index = 0; index < 4; ++index) out[index] = open_unit(b.word[index]);
            });
        else
            fill<double, 2>(high, low, result.data_ptr<double>(), result.numel(), [](Block b, double *out) {
                out[0] = open_unit(b.word[0], b.word[1]);
                out[1] = open_unit(b.word[2], b.word[3]);
            });
        return result;
    });
}

void ct_random_words(uint64_t high, uint64_t low, uint64_t *out, int64_t count) {
    fill<uint64_t, 2>(high, low, out, count, [](Block b, uint64_t *words) {
        words[0] = static_cast<uint64_t>(b.word[0]) << 32 | b.word[1];
        words[1] = static_cast<uint64_t>(b.word[2]) << 32 | b.word[3];
    });
}
}
